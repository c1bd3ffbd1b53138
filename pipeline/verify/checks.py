"""Judge: each function asks one question of an engine and returns one `Check`."""

from collections.abc import Iterable, Sequence

import numpy as np

from pipeline.verify.cases import HOSTILE_TEXTS, Batch
from pipeline.verify.compare import Answers, compare, is_worse
from pipeline.verify.engines import Engine, Row
from pipeline.verify.parity_report import Check

INVARIANCE = 1e-6
_EXCERPT = 200


def parity(name: str, reference: Engine, candidate: Engine, batches: Iterable[Batch], tolerance: float) -> Check:
    """Check that a candidate gives the reference's probabilities, labels and validity on every batch."""
    rows, worst, flips, valid_flips, total = 0, 0.0, 0, 0, 0.0
    where: dict[str, object] = {}
    for batch in batches:
        expected, given = reference.answer(batch.rows), candidate.answer(batch.rows)
        difference = compare(expected, given, tolerance)
        rows += difference.rows
        total += difference.mean_absolute * difference.rows
        flips += len(difference.flips)
        valid_flips += len(difference.valid_flips)
        if not where or is_worse(difference.max_absolute, worst):
            worst = difference.max_absolute
            where = _worst_case(batch, difference.worst_row, expected, given)
    passed = rows > 0 and worst <= tolerance and flips == 0 and valid_flips == 0
    detail = f"max |Δ probability| {worst:.1e} over {rows:,} rows, {flips} labels differ; allowed {tolerance:.0e} and 0"
    if not passed and where:
        detail += f"; worst at {where['batch']}, row {where['row']}"
    if valid_flips:
        detail += f"; valid differs on {valid_flips} rows"
    measured = {
        "rows": rows,
        "max_absolute": worst,
        "mean_absolute": total / max(rows, 1),
        "allowed": tolerance,
        "flips": flips,
        "valid_flips": valid_flips,
        "worst": where,
    }
    return Check(candidate.name, name, passed, detail, measured)


def invariance(name: str, candidate: Engine, batches: Iterable[Batch], alone: Sequence[Answers | None]) -> Check:
    """Check that rows answer in company as they answered alone.

    Args:
        name: the arrangement.
        candidate: the engine.
        batches: rows in company.
        alone: each row's answer alone, in the order of all batches' rows; None for a companion that is not judged.
    """
    expectations = iter(alone)
    judged, worst, changed, where = 0, 0.0, 0, ""
    for batch in batches:
        given = candidate.answer(batch.rows)
        for row in range(len(batch.rows)):
            expected = next(expectations)
            if expected is None:
                continue
            judged += 1
            answer = given.rows(np.array([row]))
            difference = compare(expected, answer, INVARIANCE)
            changed += len(difference.flips) + len(difference.valid_flips)
            if is_worse(difference.max_absolute, worst):
                worst, where = difference.max_absolute, f"{batch.name}, row {row}: {_excerpt(batch.rows[row])}"
    passed = judged > 0 and worst <= INVARIANCE and changed == 0
    detail = (
        f"max |Δ probability| to the row alone {worst:.1e}, {changed} labels differ; allowed {INVARIANCE:.0e} and 0"
    )
    measured = {"rows": judged, "max_absolute": worst, "allowed": INVARIANCE, "changed": changed, "worst": where}
    return Check(candidate.name, name, passed, detail if passed else f"{detail}; worst at {where}", measured)


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
    generator = np.random.default_rng(0)
    for name in ("mixed", "shuffled"):
        order = generator.permutation(len(rows)) if name == "shuffled" else np.arange(len(rows))
        batches = [
            Batch(name, [rows[index] for index in order[start : start + max_batch_size]])
            for start in range(0, len(rows), max_batch_size)
        ]
        checks.append(invariance(name, candidate, batches, [answers[index] for index in order]))
    if is_text:
        beside = [Batch(f"beside {name}", [rows[0], raw, rows[-1]]) for name, raw in HOSTILE_TEXTS]
        checks.append(
            invariance("hostile neighbours", candidate, beside, [answers[0], None, answers[-1]] * len(beside))
        )
    return checks


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
