import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipeline.drift.distance import (
    Scale,
    kolmogorov_smirnov,
    kolmogorov_survival,
    stability_index,
    stability_noise,
)

SMALL = arrays.arrays(np.int64, st.integers(1, 60), elements=st.integers(-5, 5))
REAL = arrays.arrays(np.float32, st.integers(1, 60), elements=st.floats(0, 1, width=32))


def smirnov(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return the statistic as it is defined: over every value that either sample has."""
    return max(abs((ours <= value).mean() - (theirs <= value).mean()) for value in np.concatenate([ours, theirs]))


@given(st.one_of(st.tuples(SMALL, SMALL), st.tuples(REAL, REAL)))
def test_the_counts_give_the_exact_statistic_of_kolmogorov_and_smirnov(samples) -> None:
    reference, values = samples
    scale = Scale.of(reference)
    statistic, p_value = kolmogorov_smirnov(scale.counts, scale.count(values))
    assert statistic == pytest.approx(smirnov(reference, values), abs=1e-12)
    assert 0 <= p_value <= 1


@given(st.one_of(st.tuples(SMALL, SMALL), st.tuples(REAL, REAL)))
def test_every_value_has_one_bin_and_every_bin_a_name(samples) -> None:
    reference, values = samples
    scale = Scale.of(reference)
    assert scale.binned(scale.count(values)).sum() == len(values)
    assert (scale.count(reference) == scale.counts).all()
    assert len(set(scale.names())) == len(scale.binned(scale.counts))
    assert (np.diff(scale.bin_of) >= 0).all()


def test_blocks_counted_one_after_the_other_are_the_whole() -> None:
    generator = np.random.default_rng(0)
    scale, values = Scale.of(generator.normal(size=500)), generator.normal(size=1000)
    assert (sum(scale.count(part) for part in np.split(values, 10)) == scale.count(values)).all()


@pytest.mark.parametrize(
    ("value", "probability"), [(1.2238478702170823, 0.1), (1.3580986393225505, 0.05), (1.6276236115189499, 0.01)]
)
def test_the_kolmogorov_distribution_has_its_tabled_quantiles(value: float, probability: float) -> None:
    assert kolmogorov_survival(value) == pytest.approx(probability, abs=1e-9)


def test_the_kolmogorov_distribution_is_whole_at_both_ends() -> None:
    assert kolmogorov_survival(0) == 1
    assert kolmogorov_survival(0.2) == pytest.approx(1, abs=1e-9)
    assert kolmogorov_survival(0.2001) == pytest.approx(1, abs=1e-9)
    assert kolmogorov_survival(10) < 1e-80


def test_p_values_of_one_distribution_are_uniform() -> None:
    generator = np.random.default_rng(0)
    p_values = []
    for _ in range(400):
        scale = Scale.of(generator.normal(size=1000))
        p_values.append(kolmogorov_smirnov(scale.counts, scale.count(generator.normal(size=1000)))[1])
    for level in (0.05, 0.2, 0.5):
        chance = math.sqrt(level * (1 - level) / len(p_values))
        assert (np.array(p_values) <= level).mean() == pytest.approx(level, abs=4 * chance)


def test_the_stability_index_is_the_one_of_the_formula() -> None:
    # shares 0.5 / 0.5 against 0.8 / 0.2, of so many rows that half a pseudo-count is nothing
    expected, found = np.array([5, 5]) * 10**9, np.array([8, 2]) * 10**9
    assert stability_index(expected, found) == pytest.approx(0.3 * math.log(1.6) - 0.3 * math.log(0.4), rel=1e-6)
    assert stability_index(expected, expected) == 0
    assert stability_index(expected, found) == pytest.approx(stability_index(found, expected), rel=1e-6)


def test_an_empty_bin_gives_a_finite_index() -> None:
    assert 1 < stability_index(np.array([100, 0]), np.array([0, 100])) < 20


def test_noise_is_as_yurdakul_and_naranjo_say() -> None:
    chi_square_9_at_99 = 21.666  # tabled
    for rows, known in ((1000, 1000), (10_000, 2000), (500, 100_000)):
        wanted = chi_square_9_at_99 * (1 / rows + 1 / known)
        assert stability_noise(np.full(10, known // 10), rows) == pytest.approx(wanted, rel=0.1)


def test_fewer_than_a_hundred_rows_are_noise_at_the_default_limit() -> None:
    assert stability_noise(np.full(10, 10_000), 99) > 0.2 > stability_noise(np.full(10, 10_000), 130)


@pytest.mark.parametrize("values", [np.full(100, 7), np.full(100, 0.5), np.array([7] * 90 + list(range(20, 30)))])
def test_a_frequent_value_cannot_hide_its_neighbours(values: np.ndarray) -> None:
    scale = Scale.of(values)
    for shift in (-1, 1):
        index = stability_index(scale.binned(scale.counts), scale.binned(scale.count(values + shift)))
        assert index > 1, scale.names()


def test_bins_of_whole_numbers_are_named_by_them() -> None:
    assert Scale.of(np.repeat([1, 2, 3, 4, 9], [5, 30, 30, 30, 5])).names() == ["≤ 1", "2", "3", "4", "≥ 9"]
    assert Scale.of(np.array([100] * 9)).names() == ["< 100", "100", "> 100"]
    assert Scale.of(np.arange(1000)).names()[:2] == ["≤ 99", "100 – 199"]
