"""What differs between two versions of a model: contract, configuration, bytes, figures, and answers."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.json_format import MessageToDict

from pipeline.repository.aliases import Aliases
from pipeline.repository.config import SERVED_PARAMETERS
from pipeline.repository.goldens import Goldens
from pipeline.repository.transaction import Repository
from pipeline.repository.version import Version

Pair = tuple[Any, Any]
_FIGURES = ("variant", "test_accuracy", "test_calibration_error")
_HASHES = ("files", "sources", "dataset")
_ROW_SHOWN = 60


@dataclass(frozen=True)
class Difference:
    """Version A beside version B; a key that one of them lacks has None there.

    Attributes:
        contract: what a client depends on, where it differs; nothing, as long as `publish` wrote both.
        config: keys of ``config.pbtxt`` that differ.
        hashes: SHA-256 of the files, of the run's and of the data's, where they differ.
        figures: variant, test accuracy and expected calibration error of both, equal or not.
        rows: the golden rows of both that were asked.
        labels: the rows that are labelled otherwise: how each begins, and the two labels.
        max_probability_change: the largest |Δ probability|.
    """

    contract: dict[str, Pair]
    config: dict[str, Pair]
    hashes: dict[str, Pair]
    figures: dict[str, Pair]
    rows: int
    labels: tuple[tuple[str, str, str], ...]
    max_probability_change: float


def diff(repository: Path, name: str, a: int, b: int) -> Difference:
    """Compare two versions; both answer the golden rows of both, in ONNX Runtime.

    Raises:
        UsageError: there is no such model or version.
        RepositoryError: one is damaged.
        PipelineError: a model does not load.
    """
    aliases = Aliases(Repository(repository))
    versions = (aliases.require(name, a), aliases.require(name, b))
    manifests = [version.manifest for version in versions]
    rows = _rows(versions)
    (labels_a, probabilities_a), (labels_b, probabilities_b) = (_answers(version, rows) for version in versions)
    return Difference(
        contract=_differing(*(version.signature.contract for version in versions)),
        config=_differing(*(_config(aliases, name, number) for number in (a, b))),
        hashes=_differing(*({key: manifest.get(key) for key in _HASHES} for manifest in manifests)),
        figures={key: (manifests[0].get(key), manifests[1].get(key)) for key in _FIGURES},
        rows=len(rows),
        labels=tuple(
            (_shown(row), one, other) for row, one, other in zip(rows, labels_a, labels_b, strict=True) if one != other
        ),
        max_probability_change=float(np.abs(probabilities_a - probabilities_b).max()),
    )


def _rows(versions: tuple[Version, Version]) -> list[Any]:
    goldens = [golden.row for version in versions for golden in Goldens.load(version.path).rows]
    return list({row if isinstance(row, str) else row.tobytes(): row for row in goldens}.values())


def _answers(version: Version, rows: list[Any]) -> tuple[list[str], np.ndarray]:
    """Return the labels and the probabilities (N, C) of N rows."""
    labels, probabilities = zip(*version.answers(rows), strict=True)
    return list(labels), np.stack(probabilities)


def _config(aliases: Aliases, name: str, version: int) -> dict[str, Any]:
    """Return a version's configuration without what depends on how it is served."""
    content: dict[str, Any] = MessageToDict(aliases.own_config(name, version), preserving_proto_field_name=True)
    content.pop("version_policy", None)
    for key in SERVED_PARAMETERS:
        content.get("parameters", {}).pop(key, None)
    return content


def _differing(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Pair]:
    ours, theirs = dict(_leaves(a)), dict(_leaves(b))
    keys = dict.fromkeys([*ours, *theirs])
    return {key: (ours.get(key), theirs.get(key)) for key in keys if ours.get(key) != theirs.get(key)}


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list | tuple) and any(isinstance(item, dict) for item in value):
        for number, item in enumerate(value):
            yield from _leaves(item, f"{path}[{number}]")
    else:
        yield path, value


def _shown(row: Any) -> str:
    return row[:_ROW_SHOWN] if isinstance(row, str) else f"frames {row.shape}"
