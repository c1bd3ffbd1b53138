"""``tune.html``: what was found, what it was held against, and every trial, as the report's pages are made."""

import shlex

from pipeline.report.blocks import (
    Block,
    Cell,
    Code,
    Column,
    Drawing,
    Drawings,
    Figure,
    Group,
    Head,
    Page,
    Section,
    Table,
)
from pipeline.report.drawing import scatter
from pipeline.report.stage import render
from pipeline.report.words import NONE, decimal
from pipeline.run_directory import RunDirectory
from pipeline.tune.record import HOLDS_WITHIN, Contender, Tuned, front, longest
from pipeline.tune.search import Result
from pipeline.tune.space import Candidate

ADVICE = "Measure longer with --seconds, or on a quieter machine."
_TRIALS = ("configuration", "trial", "texts/s", "p99, ms", "MB", "may be chosen")


def page_of(run: RunDirectory, tuned: Tuned) -> str:
    """Return the page as HTML."""
    sections = (_compared(tuned), _pareto(tuned), _patch(run, tuned), _trials(tuned))
    return render(Page(shlex.quote(str(run.path)), _head(run.info["name"], tuned), sections, kind="Tuning"))


def _head(name: str, tuned: Tuned) -> Head:
    found = tuned.found
    if found.result.reason:
        return Head(name, "bad", "Did not hold", f"{found.candidate}: {found.result.reason}.", ())
    figures = [_ratio(tuned, "the recipe's", tuned.start)]
    if tuned.difference is not None:
        wanted = f"{tuned.predicted:.2f} × the recipe's; wanted within {HOLDS_WITHIN:.0%}"
        figures.append(Figure(f"{tuned.difference:+.1%}", "off the prediction", wanted))
    if tuned.random:
        figures.append(_ratio(tuned, f"the best of {tuned.drawn} random", tuned.random))
    sentence = f"{found.candidate}: {tuned.goal}."
    if tuned.holds is False:
        return Head(name, "quiet", "Tuned, prediction off", f"{sentence} {ADVICE}", tuple(figures))
    return Head(name, "good", "Tuned", sentence, tuple(figures))


def _ratio(tuned: Tuned, name: str, other: Contender) -> Figure:
    times = tuned.times(other)
    return Figure(NONE if times is None else f"{times:.2f} ×", name, other.result.reason or str(other.candidate))


def _compared(tuned: Tuned) -> Section:
    named = [("found", tuned.found), ("recipe", tuned.start), (f"best of {tuned.drawn} random", tuned.random)]
    rows = tuple((Cell(name), *_cells("confirm", one.candidate, one.result)) for name, one in named if one)
    columns = (Column("which"), *_columns())
    table = Table("Measured side by side, after the search", columns, (Group(rows),))
    lead = f"{tuned.searched} trials of a grid of {tuned.grid}; what they led to was measured again."
    return Section("compared", "What was found", lead, (table,))


def _pareto(tuned: Tuned) -> Section:
    allowed = [result for result in longest(tuned.trials).values() if not result.reason]
    best, unit = front(tuned.trials), "texts/s" if tuned.question["rate"] is None else "1 / p99, 1/s"
    points = [(result.memory_mb or 0.0, result.value) for result in allowed]
    line = [(result.memory_mb or 0.0, result.value) for _, result in best]
    drawings = [
        Drawing("Each configuration by its longest trial", scatter("speed over memory", "MB", unit, points, line))
    ]
    table = Table("On the line", _columns(), (Group(tuple(_cells("longest", *one) for one in best)),))
    blocks: tuple[Block, ...] = (Drawings(tuple(drawings)), table) if allowed else ()
    return Section(
        "pareto", "Speed over memory", "No other is as fast with as little memory as those on the line.", blocks
    )


def _patch(run: RunDirectory, tuned: Tuned) -> Section:
    lead = f"`pipeline publish {run.path} --config-patch {run / 'tuned.pbtxt'}` publishes it."
    return Section("patch", "Patch", lead, (Code(tuned.found.candidate.patch()),))


def _trials(tuned: Tuned) -> Section:
    rows = (_cells(trial.kind, candidate, result) for trial in tuned.trials for candidate, result in trial)
    table = Table("Trials", _columns(), (Group(tuple(rows)),))
    return Section("trials", "Every trial", "In the order in which they were asked for.", (table,))


def _columns() -> tuple[Column, ...]:
    return tuple(Column(title, is_number=title in _TRIALS[2:5]) for title in _TRIALS)


def _cells(kind: str, candidate: Candidate, result: Result) -> tuple[Cell, ...]:
    return (
        Cell(str(candidate)),
        Cell(kind),
        Cell(f"{result.rate:,.1f}"),
        Cell(NONE if result.p99_ms is None else decimal(result.p99_ms, 1)),
        Cell(NONE if result.memory_mb is None else f"{result.memory_mb:,.0f}"),
        Cell(result.reason or "yes", "bad" if result.reason else "good"),
    )
