import numpy as np
import pytest

from pipeline.metrics import calibration, cross_entropy, measure

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
