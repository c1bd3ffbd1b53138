"""Measure how far two sets of answers are apart; judging is `checks`' work."""

import math
from dataclasses import dataclass

import numpy as np

from pipeline.errors import CheckFailed


@dataclass(frozen=True)
class Answers:
    """What an engine said about N rows.

    Attributes:
        probabilities: (N, C) float32.
        labels: N label names.
        valid: (N,) bool, whether the input was what it should be: UTF-8, or finite numbers.
    """

    probabilities: np.ndarray
    labels: list[str]
    valid: np.ndarray

    def rows(self, indices: np.ndarray) -> "Answers":
        """Return the answers to some of the rows."""
        return Answers(self.probabilities[indices], [self.labels[index] for index in indices], self.valid[indices])


@dataclass(frozen=True)
class Difference:
    """How far a candidate's answers are from a reference's.

    Attributes:
        rows: N.
        max_absolute: largest |Δ probability|; NaN if any answer holds a NaN.
        mean_absolute: mean |Δ probability|.
        worst_row: the row of the largest difference (the first NaN, if there is one).
        flips: rows whose label differs although the reference's margin exceeds the tolerance.
        valid_flips: rows whose ``valid`` differs.
    """

    rows: int
    max_absolute: float
    mean_absolute: float
    worst_row: int
    flips: tuple[int, ...]
    valid_flips: tuple[int, ...]


def compare(reference: Answers, candidate: Answers, tolerance: float) -> Difference:
    """Compare two engines' answers to the same N > 0 rows.

    Raises:
        CheckFailed: the shapes differ.
    """
    if reference.probabilities.shape != candidate.probabilities.shape:
        raise CheckFailed(
            f"probabilities: {candidate.probabilities.shape} where {reference.probabilities.shape} was wanted"
        )
    difference = np.abs(reference.probabilities.astype(np.float64) - candidate.probabilities)
    by_row = difference.max(1)
    worst = int(np.argmax(np.where(np.isnan(by_row), np.inf, by_row)))
    ordered = np.sort(reference.probabilities, axis=1)
    is_decided = ordered[:, -1] - ordered[:, -2] > tolerance
    flips = [
        row
        for row, (ours, theirs) in enumerate(zip(reference.labels, candidate.labels, strict=True))
        if ours != theirs and is_decided[row]
    ]
    return Difference(
        rows=len(by_row),
        max_absolute=float(by_row[worst]),
        mean_absolute=float(difference.mean()),
        worst_row=worst,
        flips=tuple(flips),
        valid_flips=tuple(int(row) for row in np.flatnonzero(reference.valid != candidate.valid)),
    )


def is_worse(difference: float, worst: float) -> bool:
    """Say whether a difference is worse than the worst so far; NaN is worse than any number, nothing than NaN."""
    return not (difference <= worst or math.isnan(worst))
