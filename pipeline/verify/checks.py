"""Judge: each function asks one question of an engine and returns one `Check`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from pipeline.verify.cases import HOSTILE_TEXTS, Batch
from pipeline.verify.compare import Answers, Distance, Flip, Tolerance, badness, flips, worse
from pipeline.verify.engines import Engine, Row
from pipeline.verify.parity_report import Check

INVARIANCE = Tolerance(1e-6)
_EXCERPT = 200
_FLIPS_KEPT = 50


def parity(name: str, reference: Engine, candidate: Engine, batches: Iterable[Batch], tolerance: Tolerance) -> Check:
    """Check that a candidate gives the reference's probabilities, labels and validity on every batch."""
    gathered = _Gathered(tolerance)
    for batch in batches:
        gathered.add(batch, reference.answer(batch.rows), candidate.answer(batch.rows))
    return gathered.check(candidate.name, name, "max |Δ probability|")


def invariance(name: str, candidate: Engine, batches: Iterable[Batch], alone: Sequence[Answers | None]) -> Check:
    """Check that rows answer in company as they answered alone.

    Args:
        name: the arrangement.
        candidate: the engine.
        batches: rows in company.
        alone: each row's answer alone, in the order of all batches' rows; None for a companion that is not judged.
    """
    gathered, start = _Gathered(INVARIANCE), 0
    for batch in batches:
        expected = alone[start : start + len(batch.rows)]
        start += len(batch.rows)
        judged = np.array([row for row, answer in enumerate(expected) if answer is not None])
        given = candidate.answer(batch.rows).rows(judged)
        kept = Batch(batch.name, [batch.rows[row] for row in judged])
        gathered.add(kept, _joined([answer for answer in expected if answer is not None]), given)
    return gathered.check(candidate.name, name, "max |Δ probability| to the row alone")


def settings(
    name: str, reference: Engine, candidates: Mapping[str, Engine], batch: Batch, tolerance: Tolerance
) -> Check:
    """Check that an engine gives the reference's answers in each of its settings.

    Args:
        name: what is set.
        reference: the engine to agree with.
        candidates: the engine, by its setting.
        batch: what is asked.
        tolerance: what is allowed.
    """
    gathered, expected = _Gathered(tolerance), reference.answer(batch.rows)
    for setting, candidate in candidates.items():
        gathered.add(Batch(setting, batch.rows), expected, candidate.answer(batch.rows))
    (engine,) = {candidate.name for candidate in candidates.values()}
    return gathered.check(engine, name, f"{', '.join(candidates)}: max |Δ probability|")


class _Gathered:
    """What was found in the batches so far, and the worst of it, whole."""

    def __init__(self, tolerance: Tolerance) -> None:
        self._distance = Distance(tolerance)
        self._worst: dict[str, Any] = {}
        self._flips: list[dict[str, Any]] = []
        self._decided = 0
        self._valid_flips = 0
        self._by_batch: dict[str, float] = {}
        self._grid: list[dict[str, Any]] = []

    def add(self, batch: Batch, expected: Answers, given: Answers) -> None:
        before = self._distance.max_absolute
        by_row = self._distance.add(expected.probabilities, given.probabilities)
        row = int(np.argmax(np.where(np.isnan(by_row), np.inf, by_row)))
        if not self._worst or not (by_row[row] <= before or np.isnan(before)):
            self._worst = _worst_case(batch, row, expected, given)
        self._by_batch[batch.name] = worse(self._by_batch.get(batch.name, 0.0), by_row)
        if batch.shape:
            self._grid.append({**asdict(batch.shape), "max_absolute": float(by_row[row])})
        self._valid_flips += int((expected.valid != given.valid).sum())
        for flip in flips(expected, given):
            self._decided += not flip.margin <= self._distance.tolerance.absolute
            self._flips.append(_flip(flip, batch))

    def check(self, engine: str, name: str, measure: str) -> Check:
        distance, allowed = self._distance, self._distance.tolerance.absolute
        passed = distance.is_within and self._decided == 0 and self._valid_flips == 0
        detail = (
            f"{measure} {distance.max_absolute:.1e} over {distance.rows:,} rows, {self._decided} labels differ; "
            f"allowed {allowed:.0e} and 0"
        )
        if not passed and self._worst:
            detail += f"; worst at {self._worst['batch']}, row {self._worst['row']}: {self._worst['input']}"
        if self._valid_flips:
            detail += f"; valid differs on {self._valid_flips} rows"
        measured = {
            **distance.figures,
            "flips": self._decided,
            "near_flips": len(self._flips) - self._decided,
            "valid_flips": self._valid_flips,
            "flipped": sorted(self._flips, key=lambda flip: badness(flip["margin"]), reverse=True)[:_FLIPS_KEPT],
            "worst": self._worst,
        }
        if self._grid:
            measured["grid"] = self._grid
        elif len(self._by_batch) > 1:
            measured["by_batch"] = self._by_batch
        return Check(engine, name, passed, detail, measured)


def repeatability(candidate: Engine, batch: Batch) -> Check:
    """Check that the same batch twice gives the same bits."""
    first, second = candidate.answer(batch.rows), candidate.answer(batch.rows)
    passed = np.array_equal(first.probabilities, second.probabilities) and first.labels == second.labels
    detail = f"{len(batch.rows)} rows twice: {'the same bits' if passed else 'other bits the second time'}"
    return Check(candidate.name, "repeated", passed, detail)


def batch_invariance(
    candidate: Engine, rows: list[Row], longest: Row, max_batch_size: int, *, is_text: bool
) -> list[Check]:
    """Check that a row's answer does not depend on its company: padded, shuffled, mixed, beside hostile bytes."""
    answers = [candidate.answer([row]) for row in rows]
    checks = [
        invariance("padded", candidate, (Batch("beside the longest row", [row, longest]) for row in rows),
                   [item for answer in answers for item in (answer, None)]),
        repeatability(candidate, Batch("sample", rows[:max_batch_size])),
    ]  # fmt: skip
    order = np.random.default_rng(0).permutation(len(rows))
    arrangements = {
        "mixed": (np.arange(len(rows)), max_batch_size),
        "split": (np.arange(len(rows)), max(1, max_batch_size // 2)),
        "shuffled": (order, max_batch_size),
    }
    for name, (indices, size) in arrangements.items():
        batches = [
            Batch(name, [rows[index] for index in indices[start : start + size]])
            for start in range(0, len(indices), size)
        ]
        checks.append(invariance(name, candidate, batches, [answers[index] for index in indices]))
    if is_text:
        checks.append(hostile_neighbours(candidate, rows, HOSTILE_TEXTS))
    return checks


def hostile_neighbours(candidate: Engine, rows: list[Row], hostile: Sequence[tuple[str, Row]]) -> Check:
    """Check that rows answer beside each named hostile row as they answered alone."""
    beside = [Batch(f"beside {name}", [rows[0], row, rows[-1]]) for name, row in hostile]
    alone = [candidate.answer(rows[:1]), None, candidate.answer(rows[-1:])]
    return invariance("hostile neighbours", candidate, beside, alone * len(beside))


def _joined(answers: Sequence[Answers]) -> Answers:
    return Answers(
        np.concatenate([answer.probabilities for answer in answers]),
        [label for answer in answers for label in answer.labels],
        np.concatenate([answer.valid for answer in answers]),
    )


def _flip(flip: Flip, batch: Batch) -> dict[str, Any]:
    return {
        "batch": batch.name,
        "row": flip.row,
        "input": _excerpt(batch.rows[flip.row]),
        "margin": flip.margin,
        "labels": list(flip.labels),
    }


def _worst_case(batch: Batch, row: int, expected: Answers, given: Answers) -> dict[str, object]:
    return {
        "batch": batch.name,
        "row": row,
        "input": _excerpt(batch.rows[row]),
        "reference": expected.probabilities[row].tolist(),
        "candidate": given.probabilities[row].tolist(),
        "labels": [expected.labels[row], given.labels[row]],
    }


def _excerpt(row: Row) -> str:
    if isinstance(row, np.ndarray):
        return f"{row.shape[0]} frames of {row.shape[1]}"
    return repr(row[:_EXCERPT])
