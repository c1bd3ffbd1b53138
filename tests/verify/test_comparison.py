"""Measuring and judging, apart from any engine: every fault of an answer is seen, and nothing else."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from pipeline.errors import CheckFailed
from pipeline.verify.cases import Batch
from pipeline.verify.checks import batch_invariance, hostile_neighbours, parity, repeatability, settings
from pipeline.verify.compare import Answers, Distance, Tolerance, flips

ROWS = [f"row {number}" for number in range(6)]


@dataclasses.dataclass
class Oracle:
    """An engine whose answer to a row is its number, but for what a test breaks."""

    broken: Callable[[Sequence[str], np.ndarray], np.ndarray] = lambda _, probabilities: probabilities
    name: str = "oracle"

    def answer(self, rows: Sequence[str | bytes]) -> Answers:
        rows = [row if isinstance(row, str) else row.decode(errors="replace") for row in rows]
        first = np.array([0.1 * int(row[-1]) if row.startswith("row") else 0.5 for row in rows], np.float32)
        probabilities = self.broken(rows, np.stack([first, 1 - first], 1))
        return Answers(probabilities, ["ab"[number] for number in probabilities.argmax(1)], np.ones(len(rows), bool))


def by_position(rows: Sequence[str], probabilities: np.ndarray) -> np.ndarray:
    return probabilities + np.linspace(0, 1e-3, len(rows), dtype=np.float32)[:, None]


def by_batch_size(rows: Sequence[str], probabilities: np.ndarray) -> np.ndarray:
    return probabilities + np.float32(1e-3 * (len(rows) == 2))


def nan_in_company(rows: Sequence[str], probabilities: np.ndarray) -> np.ndarray:
    return probabilities * np.where(len(rows) > 2, np.nan, 1).astype(np.float32)


@pytest.mark.parametrize(
    ("fault", "caught_by"), [(by_position, "shuffled"), (by_batch_size, "padded"), (nan_in_company, "mixed")]
)
def test_an_answer_that_depends_on_its_company_is_caught(fault, caught_by: str) -> None:
    checks = {check.name: check for check in batch_invariance(Oracle(fault), list(ROWS), "long", 6, is_text=True)}
    assert not checks[caught_by].passed
    assert all(check.passed for check in batch_invariance(Oracle(), list(ROWS), "long", 6, is_text=True))


def test_answers_that_change_from_call_to_call_are_caught() -> None:
    noise: Iterator[float] = iter([0.0, 1e-9])
    unsteady = Oracle(lambda _, probabilities: probabilities + np.float32(next(noise) * 1e3))
    assert not repeatability(unsteady, Batch("sample", list(ROWS))).passed


def test_a_hostile_row_that_changes_its_neighbours_is_caught() -> None:
    def spread(rows: Sequence[str], probabilities: np.ndarray) -> np.ndarray:
        return probabilities + np.float32(1e-3 * any(row.startswith("hostile") for row in rows))

    hostile = [("quiet", "row 3"), ("loud", "hostile row 1")]
    check = hostile_neighbours(Oracle(spread), ROWS, hostile)
    assert not check.passed
    assert check.measured["worst"]["batch"] == "beside loud"
    assert hostile_neighbours(Oracle(), ROWS, hostile).passed


def test_one_setting_that_changes_an_answer_is_caught_and_named() -> None:
    engines = {"none": Oracle(), "all": Oracle(by_position)}
    check = settings("optimisation", Oracle(), engines, Batch("sample", ROWS), Tolerance(1e-5))
    assert not check.passed
    assert check.measured["worst"]["batch"] == "all"
    assert settings("optimisation", Oracle(), {"none": Oracle()}, Batch("sample", ROWS), Tolerance(1e-5)).passed


def test_nan_fails_parity_and_is_the_worst_row() -> None:
    def third_is_nan(rows: Sequence[str], probabilities: np.ndarray) -> np.ndarray:
        probabilities[3:4] = np.nan
        return probabilities

    healthy_after = [Batch("b", list(ROWS)), Batch("c", ROWS[:2])]
    check = parity("p", Oracle(), Oracle(third_is_nan), healthy_after, Tolerance(1e-5))
    assert not check.passed
    assert (check.measured["worst"]["batch"], check.measured["worst"]["row"]) == ("b", 3)


def test_no_batches_at_all_is_not_a_pass() -> None:
    assert not parity("p", Oracle(), Oracle(), [], Tolerance(1e-5)).passed


def test_a_flip_counts_only_beyond_the_tolerance() -> None:
    def even_but_flipped(rows: Sequence[str], probabilities: np.ndarray) -> np.ndarray:
        return 1 - probabilities

    check = parity("p", Oracle(), Oracle(even_but_flipped), [Batch("b", ["row 5", "row 4"])], Tolerance(1e-5))
    assert check.measured["flips"] == 1
    assert [(flip["row"], flip["labels"]) for flip in check.measured["flipped"]] == [(1, ["b", "a"])]
    assert check.measured["flipped"][0]["margin"] == pytest.approx(0.2)


def test_flips_are_found_with_their_margins() -> None:
    reference = Answers(np.array([[0.5, 0.5], [0.6, 0.4]], np.float32), ["a", "a"], np.ones(2, bool))
    other = Answers(reference.probabilities, ["b", "b"], np.ones(2, bool))
    assert [(flip.row, pytest.approx(flip.margin)) for flip in flips(reference, other)] == [(0, 0.0), (1, 0.2)]


def test_the_distance_of_arrays_is_what_numpy_says_and_does_not_depend_on_the_batches() -> None:
    generator = np.random.default_rng(0)
    ours = generator.normal(size=(50, 3, 2))
    theirs = ours + generator.normal(0, 1e-3, ours.shape)
    whole, parts = Distance(Tolerance(1e-5, 1e-3)), Distance(Tolerance(1e-5, 1e-3))
    by_row = whole.add(ours, theirs)
    for start in (0, 7, 30):
        parts.add(ours[start : {0: 7, 7: 30, 30: 50}[start]], theirs[start : {0: 7, 7: 30, 30: 50}[start]])
    quantiles = [distance.figures["quantiles"] for distance in (parts, whole)]
    assert quantiles[0] == pytest.approx(quantiles[1])
    for name in ("max_absolute", "mean_absolute", "max_relative", "mean_relative", "cosine", "needed"):
        assert parts.figures[name] == pytest.approx(whole.figures[name]), name
    difference = np.abs(ours - theirs)
    assert by_row == pytest.approx(difference.reshape(50, -1).max(1))
    figures = whole.figures
    assert figures["max_absolute"] == difference.max()
    assert figures["mean_absolute"] == pytest.approx(difference.mean())
    assert figures["quantiles"]["0.9"] == pytest.approx(np.quantile(by_row, 0.9))
    assert figures["cosine"] == pytest.approx(
        np.dot(ours.ravel(), theirs.ravel()) / np.linalg.norm(ours) / np.linalg.norm(theirs)
    )
    assert figures["needed"] == pytest.approx((difference - 1e-3 * np.abs(ours)).max())


def test_the_tolerance_that_would_have_passed_passes_and_a_smaller_one_does_not() -> None:
    ours = np.linspace(0, 1, 20)[:, None]
    theirs = ours + 1e-3
    strict = Distance(Tolerance(1e-5))
    strict.add(ours, theirs)
    assert not strict.is_within
    for factor, is_within in ((1.0, True), (0.999, False)):
        again = Distance(Tolerance(strict.figures["needed"] * factor))
        again.add(ours, theirs)
        assert again.is_within is is_within


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("sides", [(True, False), (False, True), (True, True)])
def test_a_number_that_is_not_finite_is_never_within(number: float, sides: tuple[bool, bool]) -> None:
    distance = Distance(Tolerance(1e9, 1e9))
    arrays = [np.full((1, 2), [0.5, number if side else 0.5]) for side in sides]
    distance.add(np.zeros((1, 2)), np.zeros((1, 2)))
    assert distance.is_within
    assert np.isnan(distance.add(arrays[0], arrays[1])).all()
    distance.add(np.zeros((1, 2)), np.zeros((1, 2)))
    assert not distance.is_within
    assert np.isnan(distance.max_absolute)
    assert distance.figures["not_finite"] == [int(side) for side in sides]


def test_answers_of_another_shape_are_refused() -> None:
    with pytest.raises(CheckFailed, match=r"\(2, 2\) where \(6, 2\) was wanted"):
        Distance(Tolerance(1e-5)).add(np.zeros((6, 2)), np.zeros((2, 2)))
