"""How far two distributions are apart, and how far samples of one distribution come apart by chance.

Sources: N. Siddiqi 2006, Credit Risk Scorecards (population stability index, and 0.1 and 0.25 as its marks);
B. Yurdakul and J. Naranjo 2020, Statistical properties of the population stability index (without drift it is about
1/n + 1/m times a χ² variable of bins − 1 degrees of freedom: small samples look like drift); A. Kolmogorov 1933 and
N. Smirnov 1948 (the largest distance of two distribution functions, and its asymptotic distribution).
"""

from dataclasses import astuple, dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

BINS = 10
NOISE_LEVEL = 0.99  # each of five measures is wrong in at most 1 % of the cases, so all together in at most 5 %
_PSEUDO_COUNT = 0.5  # added to every bin, so that an empty one is rare and not impossible (Jeffreys)
_DRAWS = 2000
_DEVIATIONS = 2.326  # a normal variable exceeds them in 1 % of the cases, as `NOISE_LEVEL` has it


@dataclass(frozen=True)
class Scale:
    """A reference's distribution, and the places and bins into which other values fall.

    Place 2i + 1 is the point i itself, and the even places are the gaps around the points. The counts at these places
    give every quantile bin and the exact Kolmogorov–Smirnov statistic, however many values were counted.

    Attributes:
        points: (K,) the reference's distinct values, rising.
        counts: (2K + 1,) the reference's values in each place.
        bin_of: (2K + 1,) the bin of each place, from 0.
    """

    points: np.ndarray
    counts: np.ndarray
    bin_of: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> "Scale":
        """Make bins of about equally many reference values; a value as frequent as a bin has one for itself."""
        points, frequencies = np.unique(values, return_counts=True)
        counts = np.zeros(2 * len(points) + 1, np.int64)
        counts[1::2] = frequencies
        share = np.cumsum(counts) / counts.sum()
        ends = np.searchsorted(share, np.arange(1, BINS) / BINS - 1e-12)
        frequent = np.flatnonzero(counts >= counts.sum() / BINS)
        starts = np.concatenate([ends + 1, frequent, frequent + 1])
        if np.issubdtype(points.dtype, np.integer):  # between two whole numbers is no bin
            starts += np.isin(starts, 2 + 2 * np.flatnonzero(np.diff(points) == 1))
        return cls(points, counts, np.searchsorted(np.unique(starts), np.arange(len(counts)), side="right"))

    @classmethod
    def of_classes(cls, numbers: np.ndarray, classes: int) -> "Scale":
        """Make a bin of each class."""
        counts = np.zeros(2 * classes + 1, np.int64)
        counts[1::2] = np.bincount(numbers, minlength=classes)
        return cls(np.arange(classes), counts, np.minimum(np.arange(len(counts)) // 2, classes - 1))

    @property
    def rows(self) -> int:
        """How many values the reference has."""
        return int(self.counts.sum())

    def count(self, values: np.ndarray) -> np.ndarray:
        """Return (2K + 1,): how many of the values lie in each place."""
        places = np.searchsorted(self.points, values, "left") + np.searchsorted(self.points, values, "right")
        return np.bincount(places, minlength=len(self.counts))

    def binned(self, counts: np.ndarray) -> np.ndarray:
        """Return counts in places (2K + 1,) as counts in bins (B,)."""
        return np.bincount(self.bin_of, weights=counts).astype(np.int64)

    def names(self) -> list[str]:
        """Name the bins by the reference's values in them; those at the ends also hold whatever lies beyond."""
        points, bins = [f"{point:.4g}" for point in self.points], int(self.bin_of[-1]) + 1
        lows = np.searchsorted(self.bin_of[1::2], np.arange(bins + 1)).tolist()  # the first point of each bin
        return [
            _name(points, low, high, is_first=number == 0, is_last=number == bins - 1)
            for number, (low, high) in enumerate(pairwise(lows))
        ]


def _name(points: list[str], low: int, high: int, *, is_first: bool, is_last: bool) -> str:
    """Name the bin of ``points[low:high]``; without one it is a gap beside a frequent value."""
    if low == high:
        above, below = f"> {points[low - 1]}" if low else "", f"< {points[low]}" if low < len(points) else ""
        return ", ".join(filter(None, (above, below)))
    if is_first or is_last:
        return "all" if is_first and is_last else f"≤ {points[high - 1]}" if is_first else f"≥ {points[low]}"
    return points[low] if low == high - 1 else f"{points[low]} – {points[high - 1]}"


@dataclass(frozen=True)
class Ratio:
    """A part of a whole in rows that were drawn by chance, such as unknown words among all words of texts.

    Rows are what is drawn, and not words: those of one text come together.

    Attributes:
        rows: how many.
        part, whole: the sums over the rows.
        part_part, part_whole, whole_whole: the sums of their products.
    """

    rows: int = 0
    part: int = 0
    whole: int = 0
    part_part: int = 0
    part_whole: int = 0
    whole_whole: int = 0

    @classmethod
    def of(cls, parts: np.ndarray, wholes: np.ndarray) -> "Ratio":
        """Sum up rows, (N,) int64 each."""
        sums = (parts.sum(), wholes.sum(), parts @ parts, parts @ wholes, wholes @ wholes)
        return cls(len(parts), *map(int, sums))

    def __add__(self, other: "Ratio") -> "Ratio":
        return Ratio(*(ours + theirs for ours, theirs in zip(astuple(self), astuple(other), strict=True)))

    @property
    def share(self) -> float:
        """The part in the whole."""
        return self.part / self.whole

    @property
    def deviation(self) -> float:
        """The deviation of one row's influence on the share: of (part − share × whole) / mean whole."""
        square = self.part_part - 2 * self.share * self.part_whole + self.share**2 * self.whole_whole
        return float(np.sqrt(max(square, 0) * self.rows)) / self.whole


def share_noise(expected: Ratio, found: Ratio) -> float:
    """Return what the increase of the share exceeds in 1 % of the cases without any drift."""
    return _DEVIATIONS * (expected + found).deviation * float(np.sqrt(1 / expected.rows + 1 / found.rows))


def stability_index(expected: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return the population stability index of counts in bins, Σ (q − p) ln(q / p); 0 for equal shares.

    Shapes:
        expected, found: (…, B) → (…).
    """
    p, q = _shares(expected), _shares(found)
    return np.asarray(((q - p) * np.log(q / p)).sum(-1))


def stability_noise(expected: np.ndarray, rows: int) -> float:
    """Return what the index exceeds in 1 % of the cases without any drift.

    Both samples, the reference's of its size and another of ``rows``, are drawn from the reference's distribution.

    Shapes:
        expected: (B,) counts.
    """
    return _noise(tuple(expected.tolist()), rows)


@lru_cache(maxsize=1024)
def _noise(expected: tuple[int, ...], rows: int) -> float:
    generator, counts = np.random.default_rng(0), np.array(expected)
    shares = _shares(counts)
    references = generator.multinomial(counts.sum(), shares, _DRAWS)
    samples = generator.multinomial(rows, shares, _DRAWS)
    return float(np.quantile(stability_index(references, samples), NOISE_LEVEL))


def _shares(counts: np.ndarray) -> np.ndarray:
    smoothed = counts + _PSEUDO_COUNT
    return np.asarray(smoothed / smoothed.sum(-1, keepdims=True))


def kolmogorov_smirnov(expected: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    """Return the two-sample statistic and its asymptotic p-value, which errs to the large side where values are tied.

    Between two points the reference's distribution function is flat and the other one rises, so that the largest
    distance stands at the end of a place.

    Shapes:
        expected, found: (2K + 1,) counts in the same places, the reference's gaps empty.
    """
    n, m = int(expected.sum()), int(found.sum())
    statistic = float(np.abs(np.cumsum(expected) / n - np.cumsum(found) / m).max())
    return statistic, kolmogorov_survival(statistic * np.sqrt(n * m / (n + m)))


def kolmogorov_survival(value: float) -> float:
    """Return the probability that a Kolmogorov variable exceeds a value: 2 Σ (−1)^(k−1) exp(−2 k² value²)."""
    if value < 0.2:  # the probability of less is 1e-12, and the series converges slowly there
        return 1.0
    k = np.arange(1, 101)
    return float(np.clip(2 * (-((-1.0) ** k) * np.exp(-2 * (k * value) ** 2)).sum(), 0, 1))
