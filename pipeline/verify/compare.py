"""Measure how far two sets of answers are apart; judging is `checks`' work."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.errors import CheckFailed

QUANTILES = (0.5, 0.9, 0.99, 0.999)
EDGES = (*(float(f"{digit}e{power}") for power in range(-9, 0) for digit in (1, 2, 5)), 1.0)
"""Where the bins of every histogram end; what is allowed ends one more."""


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
class Tolerance:
    """What two numbers may be apart: absolute + relative · |reference|."""

    absolute: float
    relative: float = 0.0


@dataclass
class Distance:
    """How far arrays of numbers are from those of a reference, over all batches that were added.

    A number that is not finite, on either side, is NaN apart; NaN is further than any number and never allowed.

    Relative distances are of the numbers that are larger than the absolute tolerance.

    Attributes:
        tolerance: what is allowed.
        rows: how many were added.
        not_finite: numbers that are NaN or infinite, of the reference and of the candidate.
    """

    tolerance: Tolerance
    rows: int = 0
    not_finite: tuple[int, int] = (0, 0)
    _by_row: list[np.ndarray] = field(default_factory=list)
    _numbers: int = 0
    _total: float = 0.0
    _total_relative: float = 0.0
    _max_relative: float = 0.0
    _needed: float = 0.0
    _products: np.ndarray = field(default_factory=lambda: np.zeros(3))

    def add(self, reference: np.ndarray, candidate: np.ndarray) -> np.ndarray:
        """Add N > 0 rows of any equal shape, (N, …); return each row's largest |Δ|, (N,).

        Raises:
            CheckFailed: the shapes differ.
        """
        if reference.shape != candidate.shape:
            raise CheckFailed(f"{candidate.shape} where {reference.shape} was wanted")
        ours, theirs = (array.reshape(len(array), -1).astype(np.float64) for array in (reference, candidate))
        finite = np.isfinite(ours), np.isfinite(theirs)
        self.not_finite = (
            self.not_finite[0] + int((~finite[0]).sum()),
            self.not_finite[1] + int((~finite[1]).sum()),
        )
        is_finite = finite[0] & finite[1]
        ours, theirs = np.where(is_finite, ours, 0.0), np.where(is_finite, theirs, 0.0)
        difference = np.where(is_finite, np.abs(ours - theirs), np.nan)
        size = np.abs(ours)
        relative = np.where(size > self.tolerance.absolute, difference / np.maximum(size, self.tolerance.absolute), 0.0)
        by_row = difference.max(1) if difference.shape[1] else np.zeros(len(difference))
        self.rows += len(ours)
        self._by_row.append(by_row)
        self._numbers += difference.size
        self._total += float(difference.sum())
        self._total_relative += float(relative.sum())
        self._max_relative = worse(self._max_relative, relative)
        self._needed = worse(self._needed, difference - self.tolerance.relative * size)
        self._products += [(ours * theirs).sum(), (ours * ours).sum(), (theirs * theirs).sum()]
        return by_row

    @property
    def max_absolute(self) -> float:
        """The largest |Δ|; NaN if any number is not finite."""
        return max((float(part.max()) for part in self._by_row), key=badness, default=0.0)

    @property
    def is_within(self) -> bool:
        """Whether there were rows and every number is within the tolerance."""
        return self.rows > 0 and self._needed <= self.tolerance.absolute

    @property
    def figures(self) -> dict[str, Any]:
        """Everything measured; `needed` is the absolute tolerance that would have passed."""
        by_row = np.concatenate(self._by_row) if self._by_row else np.zeros(1)
        product, ours, theirs = self._products
        return {
            "rows": self.rows,
            "max_absolute": self.max_absolute,
            "mean_absolute": self._total / max(self._numbers, 1),
            "max_relative": self._max_relative,
            "mean_relative": self._total_relative / max(self._numbers, 1),
            "quantiles": dict(zip(map(str, QUANTILES), np.quantile(by_row, QUANTILES).tolist(), strict=True)),
            "histogram": _histogram(by_row[: self.rows], self.tolerance.absolute),
            "cosine": float(product / np.sqrt(ours * theirs)) if ours > 0 and theirs > 0 else None,
            "not_finite": list(self.not_finite),
            "allowed": self.tolerance.absolute,
            "allowed_relative": self.tolerance.relative,
            "needed": self._needed,
        }


@dataclass(frozen=True)
class Flip:
    """A row whose label is another one.

    Attributes:
        row: its place among the rows compared.
        margin: how far the reference's two largest probabilities are apart.
        labels: the reference's and the candidate's.
    """

    row: int
    margin: float
    labels: tuple[str, str]


def flips(reference: Answers, candidate: Answers) -> list[Flip]:
    """Return the rows whose label differs, whatever the reference's margin."""
    found = [row for row, (ours, theirs) in enumerate(_pairs(reference, candidate)) if ours != theirs]
    ordered = np.sort(reference.probabilities[found], axis=1)
    margins = ordered[:, -1] - ordered[:, -2] if ordered.shape[1] > 1 else np.ones(len(found))
    return [
        Flip(row, float(margin), (reference.labels[row], candidate.labels[row]))
        for row, margin in zip(found, margins, strict=True)
    ]


def _histogram(by_row: np.ndarray, allowed: float) -> dict[str, Any]:
    """Count rows up to each edge and above the edge before, then rows above the last; NaN stands apart."""
    edges = sorted({*EDGES, allowed})
    numbers = by_row[~np.isnan(by_row)]
    counts = np.bincount(np.searchsorted(edges, numbers, side="left"), minlength=len(edges) + 1)
    return {"edges": edges, "counts": counts.tolist(), "not_finite": len(by_row) - len(numbers)}


def _pairs(reference: Answers, candidate: Answers) -> "zip[tuple[str, str]]":
    return zip(reference.labels, candidate.labels, strict=True)


def worse(worst: float, values: np.ndarray) -> float:
    """Return the largest of a number and many; NaN is larger than any."""
    return max(worst, float(values.max()) if values.size else 0.0, key=badness)


def badness(value: float) -> float:
    """Return what a distance is ordered by: NaN is further than any number."""
    return float("inf") if np.isnan(value) else value
