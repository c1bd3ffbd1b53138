import numpy as np
import pytest

from pipeline.metrics import accuracy_by_length, calibration, confident_wrong, cross_entropy, measure

LABELS = np.array([0, 0, 0, 1, 1, 2])
PROBABILITIES = np.array(
    [[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.5, 0.4, 0.1], [0.3, 0.3, 0.4]], np.float32
)


def test_figures_are_those_worked_out_by_hand() -> None:
    figures = measure(PROBABILITIES, LABELS, ("a", "b", "c"))
    assert figures["confusion"] == [[2, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert figures["accuracy"] == pytest.approx(4 / 6)
    assert figures["majority_baseline"] == pytest.approx(3 / 6)
    assert [row["precision"] for row in figures["classes"]] == pytest.approx([2 / 3, 1 / 2, 1])
    assert [row["recall"] for row in figures["classes"]] == pytest.approx([2 / 3, 1 / 2, 1])
    assert figures["macro_f1"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert figures["loss"] == pytest.approx(-np.log([0.8, 0.6, 0.2, 0.8, 0.4, 0.4]).mean(), abs=1e-6)


def test_a_class_that_never_occurs_counts_as_zero() -> None:
    figures = measure(PROBABILITIES[:5], LABELS[:5], ("a", "b", "c"))
    assert figures["classes"][2]["f1"] == 0.0


def test_a_probability_of_zero_gives_a_finite_loss() -> None:
    assert np.isfinite(cross_entropy(np.array([[1.0, 0.0]], np.float32), np.array([1])))


def test_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    confident = np.tile(np.array([[0.9, 0.1]], np.float32), (10, 1))
    labels = np.array([0] * 6 + [1] * 4)
    assert calibration(confident, labels)["expected_calibration_error"] == pytest.approx(0.3, abs=1e-6)


def test_lengths_fall_into_ranges_that_hold_every_row_once() -> None:
    lengths = np.array([1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 90])
    is_right = lengths < 10
    rows = accuracy_by_length(is_right, lengths, bins=3)
    assert [(row["from"], row["to"], row["rows"]) for row in rows] == [(1, 3, 4), (5, 21, 4), (34, 90, 4)]
    assert [row["accuracy"] for row in rows] == [1, 0.5, 0]
    (one,) = accuracy_by_length(np.array([True, False]), np.array([7, 7]))
    assert one == {"from": 7, "to": 7, "rows": 2, "accuracy": 0.5}


def test_the_surest_wrong_rows_come_first_and_right_ones_never() -> None:
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]])
    assert confident_wrong(probabilities, np.array([0, 0, 0, 1])).tolist() == [2, 1]
    assert confident_wrong(probabilities, np.array([1, 0, 0, 0]), most=2).tolist() == [0, 2]
