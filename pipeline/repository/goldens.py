"""The answers that were verified, carried beside the model: what a version must say, wherever it is served.

They are the golden rows of the version's parity report, taken from the run's held-out data by `pipeline verify`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RepositoryError, RunError
from pipeline.files import read_record

FULL_PRECISION = "fp32"
_TOLERANCE = 1e-5
# A variant rounds what it reads to 256 steps, or to 11 bits: the last bit of another processor's float32 can carry a
# number to the next step, which moves a probability by a part of what the whole rounding does (a few thousandths).
_VARIANT_TOLERANCE = 1e-3
_PARITY: dict[str, type | tuple[type, ...]] = {"passed": bool, "goldens": list}
_MANIFEST: dict[str, type | tuple[type, ...]] = {"variant": str}


@dataclass(frozen=True)
class Golden:
    """One row and its verified answer.

    Attributes:
        row: a text, or frames (T, F) float32.
        label: the class of the largest probability.
        probabilities: (C,), in the order of the signature's classes.
    """

    row: str | NDArray[np.float32]
    label: str
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class Goldens:
    """A version's golden rows.

    Attributes:
        version: the version's number.
        rows: the rows and their answers.
        tolerance: how far a probability may lie from the verified one.
    """

    version: int
    rows: tuple[Golden, ...]
    tolerance: float

    @classmethod
    def load(cls, version: Path, variant: str | None = None) -> "Goldens":
        """Read the golden rows of a version's directory.

        Args:
            version: ``NAME/VERSION``.
            variant: whose rows; what the version's manifest says, by default.

        Raises:
            RepositoryError: the version has no readable parity report or manifest.
        """
        try:
            variant = variant or read_record(version / "manifest.json", _MANIFEST)["variant"]
            report = read_record(version / "parity.json", _PARITY)
        except RunError as error:
            raise RepositoryError(f"{error} Publish the run again, as a new version.") from error
        is_full = variant == FULL_PRECISION
        rows = report["goldens"] if is_full else report.get("variants", {}).get(variant, [])
        if not rows:
            raise RepositoryError(f"{version}: no golden rows of {variant}. Publish the run again, as a new version.")
        try:
            goldens = tuple(map(_golden, rows))
        except (KeyError, TypeError, ValueError) as error:
            raise RepositoryError(
                f"{version / 'parity.json'}: a golden row was edited ({error!r}). "
                "Publish the run again, as a new version."
            ) from error
        return cls(int(version.name), goldens, _TOLERANCE if is_full else _VARIANT_TOLERANCE)

    def faults(self, answers: Iterable[tuple[str, Sequence[float] | NDArray[np.float32]]]) -> list[str]:
        """Return a line for each answer that is not the verified one; the answers are in the order of the rows.

        Args:
            answers: label and probabilities (C,) of each row.
        """
        faults = []
        for number, (golden, (label, probabilities)) in enumerate(zip(self.rows, answers, strict=True)):
            is_alike = len(probabilities) == len(golden.probabilities)  # else it is a model of other classes
            distance = float(np.abs(np.subtract(probabilities, golden.probabilities)).max()) if is_alike else np.inf
            if label != golden.label or not distance <= self.tolerance:
                faults.append(
                    f"golden row {number}: got {label!r}, max |Δ probability| {distance:.1e}; "
                    f"verified {golden.label!r}, allowed {self.tolerance:g}"
                )
        return faults


def _golden(record: dict[str, Any]) -> Golden:
    row = record["text"] if "text" in record else np.array(record["features"], np.float32)
    return Golden(row, record["label"], tuple(record["probabilities"]))
