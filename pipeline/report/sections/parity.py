"""The parity checks: every engine, every question, and the worst case of each."""

from itertools import groupby

from pipeline.report.blocks import Block, Cell, Column, Facts, Group, Note, Section, Table
from pipeline.report.records import Record, Records, expecting
from pipeline.report.words import NONE, count, is_finite, scientific

_ENGINES = {
    "files": "The files",
    "cpu": "ONNX Runtime, CPU",
    "cuda": "ONNX Runtime, CUDA",
}
_PROBABILITIES_SHOWN = 5


def section(records: Records) -> Section:
    """Show each check's outcome, what was measured and what was allowed."""
    lead = "The exported model against PyTorch, and each row against itself in other company."
    if records.parity is None:
        return Section("parity", "Parity", lead, missing="verify")
    with expecting(records.run / "parity.json", "verify"):
        blocks: list[Block] = []
        if records.changed:
            blocks.append(Note(f"Changed since these checks were made: {', '.join(records.changed)}.", "bad"))
        checks = [check for key in ("checks", "engine_checks", "endpoint_checks") for check in records.parity[key]]
        failed = [check for check in checks if check["passed"] is not True]
        blocks += [Note(f"{_engine(check['engine'])}, {check['name']}: {check['detail']}", "bad") for check in failed]
        blocks.append(_table(checks, records.info["classes"]))
    return Section("parity", "Parity", lead, tuple(blocks))


def _table(checks: list[Record], classes: list[str]) -> Table:
    columns = (
        Column("check"),
        Column("outcome"),
        Column("max |Δ|", is_number=True),
        Column("allowed", is_number=True),
        Column("rows", is_number=True),
        Column("labels differ", is_number=True),
        Column("found"),
    )
    groups = tuple(
        Group(tuple(_row(check, classes) for check in found), _engine(engine))
        for engine, found in groupby(checks, key=lambda check: check["engine"])
    )
    return Table("Outcome of every check, by engine", columns, groups)


def _engine(name: str) -> str:
    return _ENGINES.get(name, f"Triton at {name.removeprefix('grpc://')}" if name.startswith("grpc://") else name)


def _row(check: Record, classes: list[str]) -> tuple[Cell, ...]:
    measured = check["measured"]
    passed = check["passed"] is True
    has_figures = "max_absolute" in measured
    flips = measured.get("flips", measured.get("changed"))
    return (
        Cell(check["name"]),
        Cell("pass", "good") if passed else Cell("FAIL", "bad"),
        Cell(scientific(measured["max_absolute"]) if has_figures else NONE),
        Cell(scientific(measured["allowed"]) if has_figures else NONE),
        Cell(count(measured["rows"]) if has_figures else NONE),
        Cell(count(flips) if has_figures and isinstance(flips, int) else NONE),
        Cell(
            check["detail"] if passed and not has_figures else "",
            fold=_worst(measured, classes),
            fold_title="worst case",
        ),
    )


def _worst(measured: Record, classes: list[str]) -> tuple[Block, ...]:
    worst = measured.get("worst")
    if not worst:
        return ()
    if isinstance(worst, str):
        return (Note(worst),)
    named, differing = zip(classes, worst["reference"], worst["candidate"], strict=True), worst["labels"]
    ordered = sorted(named, key=lambda item: _distance(item[1], item[2]), reverse=True)
    rows = tuple(
        (Cell(name), Cell(_probability(ours)), Cell(_probability(theirs)), Cell(scientific(_distance(ours, theirs))))
        for name, ours, theirs in ordered[:_PROBABILITIES_SHOWN]
    )
    titles = ("PyTorch", "candidate", "|Δ|")
    columns = (Column("class"), *(Column(title, is_number=True) for title in titles))
    more = f", the {_PROBABILITIES_SHOWN} furthest apart of {len(classes)}" if len(ordered) > len(rows) else ""
    facts = (
        ("where", f"{worst['batch']}, row {worst['row']}"),
        ("input", worst["input"]),
        ("labels", f"PyTorch {differing[0]}, candidate {differing[1]}"),
    )
    return Facts(facts), Table(f"Probabilities{more}", columns, (Group(rows),))


def _distance(ours: float | None, theirs: float | None) -> float:
    """Return |Δ|; infinity where one of them is not finite, so that it comes first."""
    if ours is None or theirs is None or not is_finite(ours) or not is_finite(theirs):
        return float("inf")
    return abs(ours - theirs)


def _probability(value: float | None) -> str:
    return f"{value:.8f}" if value is not None and is_finite(value) else "not finite"
