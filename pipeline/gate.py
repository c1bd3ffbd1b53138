"""What a variant of a model may lose, and how its loss is measured: the gate between a lower precision and service.

It is measured on the whole validation split, beside a reference of full precision, with the rows in two arrangements
and some of them alone; the worst arrangement counts.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.dataset import Split
from pipeline.errors import CheckFailed, RunError
from pipeline.files import read_record, sha256_of
from pipeline.metrics import calibration
from pipeline.repository.config import MODEL_FILE
from pipeline.run_directory import RunDirectory
from pipeline.runtime import CPU, CUDA
from pipeline.signature import Interface

MOST_ACCURACY_LOST = 0.001
MOST_FLIPPED = 0.005
# Both in the reference's bins. Half of what the accuracy of a few thousand rows is uncertain by, and several times what
# rounding well does: 0.0006 on `sentiment`. A better calibration is no loss.
MOST_CALIBRATION_LOST = 0.005

RECORD = "variants.json"
RECURRENT = ("LSTM", "GRU")  # the operators that a variant has at another precision
ALONE = 256
SPEED_ROWS = 256
SPEED_ROUNDS = 5

_PARITY: dict[str, type | tuple[type, ...]] = {"passed": bool, "hashes": dict, "goldens": list}

Answer = Callable[[Sequence[Any]], np.ndarray]
"""Rows, asked together, to their (B, C) probabilities."""


@dataclass(frozen=True)
class Precision:
    """A precision that a variant can have.

    Attributes:
        name: of the variant.
        provider: the execution provider that has kernels for it; elsewhere it would run as float32 behind casts.
        company: the largest |Δ probability| of a row in other company. A GPU chooses its kernels by the batch, and
            half precision then rounds otherwise.
    """

    name: str
    provider: str
    company: float

    @property
    def file(self) -> str:
        """The variant's file in the run directory."""
        return f"model.{self.name}.onnx"


PRECISIONS = {
    precision.name: precision
    for precision in (Precision("int8", CPU, 1e-6), Precision("fp16", CUDA, 1e-3), Precision("bf16", CUDA, 1e-2))
}


@dataclass(frozen=True)
class Verdict:
    """One question of the gate.

    Attributes:
        name: what is asked.
        value: what was measured.
        allowed: the largest value that passes.
        detail: both, in words.
    """

    name: str
    value: float
    allowed: float
    detail: str

    @property
    def passed(self) -> bool:
        """Whether it holds; a value that is not a number never does."""
        return bool(self.value <= self.allowed)


def require_verified(run: RunDirectory, variant: str | None = None) -> str:
    """Return the name of the verified model file.

    Args:
        run: any run.
        variant: ``int8`` or another; None for full precision.

    Raises:
        CheckFailed: the run failed verification, was changed since, or the variant is not among what was verified.
        RunError: the run was never verified.
    """
    report = read_record(run.require("parity.json"), _PARITY)
    if not report["passed"]:
        raise CheckFailed(
            f"{run / 'parity.json'}: verification failed; nothing unverified is served. "
            f"Mend it, then `pipeline verify {run.path}` again."
        )
    for name in (MODEL_FILE, "signature.json", *report["hashes"]):
        if report["hashes"].get(name) != sha256_of(run.require(name)):
            raise CheckFailed(f"{run / name}: changed since it was verified. Run `pipeline verify {run.path}` again.")
    source = PRECISIONS[variant].file if variant in PRECISIONS else MODEL_FILE
    if variant is not None and (variant not in report.get("variants", {}) or source not in report["hashes"]):
        raise CheckFailed(
            f"{run / 'parity.json'}: no verified {variant}. Make it with `pipeline export {run.path} --variants "
            f"{variant}`, then `pipeline verify {run.path}`."
        )
    return source


def kept(run: RunDirectory) -> list[dict[str, Any]]:
    """Return the records of the variants that `pipeline export` kept.

    Raises:
        RunError: ``variants.json`` is damaged.
    """
    if not (run / RECORD).is_file():
        return []
    records = read_record(run / RECORD, {"model_sha256": str, "variants": list})["variants"]
    found = [record for record in records if isinstance(record, dict) and record.get("outcome") == "kept"]
    if not all(record.get("name") in PRECISIONS and "sha256" in record for record in found):
        raise RunError(f"{run / RECORD}: cut off or edited. Run `pipeline export {run.path} --variants auto` again.")
    return found


def rows_of(split: Split, interface: Interface) -> list[Any]:
    """Return a split's rows, as callers send them."""
    return list(split.texts()) if interface == "text" else list(split.frames())


@dataclass(frozen=True)
class Arranged:
    """One engine's probabilities for N rows, by the company they were asked in.

    Attributes:
        by_length: (N, C), beside rows of similar length.
        shuffled: (N, C), beside drawn rows.
        alone: (A, C), of some rows alone.
        rows_alone: (A,), which.
    """

    by_length: np.ndarray
    shuffled: np.ndarray
    alone: np.ndarray
    rows_alone: np.ndarray


def arranged(answer: Answer, rows: Sequence[Any], size: int) -> Arranged:
    """Ask all rows twice, in batches of a size, and some of them alone."""
    by_length = np.array(sorted(range(len(rows)), key=lambda row: len(rows[row])))
    drawn = np.random.default_rng(0).permutation(len(rows))
    alone = drawn[:ALONE]
    return Arranged(
        asked(answer, rows, by_length, size)[np.argsort(by_length)],
        asked(answer, rows, drawn, size)[np.argsort(drawn)],
        asked(answer, rows, alone, 1),
        alone,
    )


def asked(answer: Answer, rows: Sequence[Any], order: np.ndarray, size: int) -> np.ndarray:
    """Return the answers to the rows of an order, (len(order), C), asked in batches of consecutive ones."""
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    return np.concatenate([answer([rows[row] for row in batch]) for batch in batches])


def figures(expected: np.ndarray, given: Arranged, labels: np.ndarray) -> dict[str, Any]:
    """Measure what a variant lost, in the worst arrangement.

    Args:
        expected: (N, C) probabilities of the reference.
        given: the variant's.
        labels: (N,), the true ones.
    """
    whole = (given.by_length, given.shuffled)
    beside = given.by_length[given.rows_alone]
    flips = max(int(_differ(expected, part).sum()) for part in whole)
    accuracy = min(_accuracy(part, labels) for part in whole)
    calibration_error = max(_calibration_error(part, labels, expected) for part in whole)
    changed = _differ(*whole)
    changed[given.rows_alone] |= _differ(beside, given.alone)
    return {
        "rows": len(labels),
        "not_finite": sum(int((~np.isfinite(part)).sum()) for part in (*whole, given.alone)),
        "accuracy": accuracy,
        "accuracy_lost": _accuracy(expected, labels) - accuracy,
        "flips": flips,
        "flipped_share": flips / len(labels),
        "calibration_error": calibration_error,
        "calibration_lost": calibration_error - _calibration_error(expected, labels, expected),
        "max_difference": _furthest((expected, whole[0]), (expected, whole[1])),
        "company_difference": _furthest(whole, (beside, given.alone)),
        "company_flips": int(changed.sum()),
        "rows_alone": len(given.alone),
    }


def verdicts(measured: Mapping[str, Any], precision: Precision) -> list[Verdict]:
    """Judge what was measured; a variant is kept if every verdict passes."""
    rows = f"{measured['rows']:,}"
    return [
        Verdict(
            "finite", measured["not_finite"], 0, f"{measured['not_finite']:,} probabilities are not finite; allowed 0"
        ),
        Verdict(
            "accuracy",
            measured["accuracy_lost"],
            MOST_ACCURACY_LOST,
            f"{measured['accuracy']:.2%} of {rows} validation rows right, {measured['accuracy_lost'] * 100:.2f} points "
            f"lost; allowed {MOST_ACCURACY_LOST * 100:.1f}",
        ),
        Verdict(
            "labels",
            measured["flipped_share"],
            MOST_FLIPPED,
            f"{measured['flips']:,} of {rows} flip, {measured['flipped_share']:.2%}; allowed {MOST_FLIPPED:.1%}",
        ),
        Verdict(
            "calibration",
            measured["calibration_lost"],
            MOST_CALIBRATION_LOST,
            f"error {measured['calibration_error']:.4f}, {measured['calibration_lost']:+.4f} to full precision; "
            f"allowed {MOST_CALIBRATION_LOST:+.4f}",
        ),
        Verdict(
            "company",
            measured["company_difference"],
            precision.company,
            f"max |Δ probability| in other company {measured['company_difference']:.1e}, {measured['company_flips']} "
            f"labels flip; allowed {precision.company:.0e}",
        ),
    ]


def speeds(answers: Mapping[str, Answer], rows: Sequence[Any], size: int) -> dict[str, float]:
    """Return how many rows each engine answers in a second: the median of several rounds in which they take turns.

    The rows are drawn, and the same for all.
    """
    order = np.random.default_rng(1).permutation(len(rows))[:SPEED_ROWS]
    seconds: dict[str, list[float]] = {name: [] for name in answers}
    for _ in range(SPEED_ROUNDS):
        for name, answer in answers.items():
            start = time.perf_counter()
            asked(answer, rows, order, size)
            seconds[name].append(time.perf_counter() - start)
    return {name: len(order) / float(np.median(times)) for name, times in seconds.items()}


def _furthest(*pairs: tuple[np.ndarray, np.ndarray]) -> float:
    """Return the largest |Δ| of all pairs; NaN if there is one."""
    return float(np.max([np.abs(ours - theirs).max() for ours, theirs in pairs]))


def _differ(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Return (N,) bool: where the labels differ."""
    return np.asarray(ours.argmax(1) != theirs.argmax(1))


def _accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    return float((probabilities.argmax(1) == labels).mean())


def _calibration_error(probabilities: np.ndarray, labels: np.ndarray, beside: np.ndarray) -> float:
    """Return the expected calibration error, in the bins of the reference."""
    if not np.isfinite(probabilities).all():
        return float("nan")
    return float(calibration(probabilities, labels, beside=beside)["expected_calibration_error"])
