"""What a variant may lose: the measure and the verdicts, on answers made by hand."""

import numpy as np
import pytest

from pipeline.gate import PRECISIONS, Arranged, figures, verdicts
from pipeline.metrics import calibration

INT8 = PRECISIONS["int8"]


def arranged(probabilities: np.ndarray, **others: np.ndarray) -> Arranged:
    return Arranged(
        others.get("by_length", probabilities),
        others.get("shuffled", probabilities),
        others.get("alone", probabilities[:2]),
        np.array([0, 1]),
    )


SURE = np.array([[0.9, 0.1]] * 3 + [[0.1, 0.9]] * 3, np.float32)
LABELS = np.array([0, 0, 0, 1, 1, 1])


def test_a_model_that_answers_as_the_reference_passes_every_verdict() -> None:
    measured = figures(SURE, arranged(SURE), LABELS)
    assert (measured["accuracy"], measured["flips"], measured["company_flips"]) == (1.0, 0, 0)
    assert all(verdict.passed for verdict in verdicts(measured, INT8))


def test_the_worst_arrangement_counts_and_company_is_a_figure_of_its_own() -> None:
    other = SURE.copy()
    other[5] = [0.6, 0.4]
    measured = figures(SURE, arranged(SURE, shuffled=other), LABELS)
    assert (measured["flips"], measured["company_flips"]) == (1, 1)
    assert measured["accuracy_lost"] == pytest.approx(1 / 6)
    assert measured["company_difference"] == pytest.approx(0.5)
    fallen = {verdict.name for verdict in verdicts(measured, INT8) if not verdict.passed}
    assert fallen == {"accuracy", "labels", "company"}


def test_a_row_that_answers_otherwise_alone_is_company_and_no_loss() -> None:
    measured = figures(SURE, arranged(SURE, alone=SURE[[3, 1]]), LABELS)
    assert (measured["flips"], measured["company_flips"]) == (0, 1)
    assert [verdict.name for verdict in verdicts(measured, INT8) if not verdict.passed] == ["company"]


def test_a_number_that_is_not_finite_never_passes() -> None:
    other = SURE.copy()
    other[1] = np.nan
    measured = figures(SURE, arranged(SURE, by_length=other), LABELS)
    assert not {verdict.name: verdict.passed for verdict in verdicts(measured, INT8)}["finite"]
    measured = figures(SURE, arranged(SURE, alone=other[:2]), LABELS)
    fallen = {verdict.name for verdict in verdicts(measured, INT8) if not verdict.passed}
    assert {"finite", "company"} <= fallen


def test_a_quiet_loss_of_confidence_is_a_loss_of_calibration() -> None:
    sure = np.array([[1.0, 0.0]] * 3 + [[0.0, 1.0]] * 3, np.float32)
    unsure = sure * np.float32(0.98) + np.float32(0.01)
    fallen = [v.name for v in verdicts(figures(sure, arranged(unsure), LABELS), INT8) if not v.passed]
    assert fallen == ["calibration"]


def test_a_row_that_crosses_the_edge_of_a_bin_by_a_hair_is_no_loss_of_calibration() -> None:
    edge = 12 / 15  # two rows below it, one right and one wrong: that they part company is no matter of confidence
    confident = np.array([edge - 0.001, edge - 0.001, 0.9, 0.9, 0.9, 0.9])
    before = np.stack([confident, 1 - confident], 1).astype(np.float32)
    after = before.copy()
    after[0] = [edge + 0.001, 1 - edge - 0.001]
    labels = np.array([0, 1, 0, 0, 0, 0])
    own = [calibration(one, labels)["expected_calibration_error"] for one in (before, after)]
    assert own[1] - own[0] > 0.05
    measured = figures(before, arranged(after), labels)
    assert measured["calibration_lost"] == pytest.approx(0.002 / 6, abs=1e-6)
