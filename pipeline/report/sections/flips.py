"""The flips: the rows whose label is another one, with their texts."""

from pipeline.report.blocks import Block, Cell, Column, Fold, Group, Note, Section, Table
from pipeline.report.engines import compared, title
from pipeline.report.records import Record, Records, expecting
from pipeline.report.words import count, decimal, is_finite, plural, scientific

_SHOWN = 10


def section(records: Records) -> Section:
    """Show every recorded row that an engine labels otherwise than the reference, the largest margins first."""
    lead = (
        "Rows with another label than the reference's. The margin is how far the reference's two largest probabilities "
        "are apart: beyond what is allowed a flip fails the check, within it rounding decides."
    )
    if records.parity is None:
        return Section("flips", "Flips", lead, missing="verify")
    with expecting(records.run / "parity.json", "verify"):
        checks = [check for check in compared(records.parity) if "flipped" in check["measured"]]
        found = [check for check in checks if check["measured"]["flipped"]]
        rows = sum(check["measured"]["rows"] for check in checks)
        if not found:
            none = f"No label differs in {plural(rows, 'row')} compared." if checks else "No check has compared labels."
            return Section("flips", "Flips", lead, (Note(none),))
        blocks: list[Block] = [_table(found, _SHOWN)]
        if any(len(check["measured"]["flipped"]) > _SHOWN for check in found):
            blocks.append(Fold("Every flip recorded", (_table(found, None),)))
        return Section("flips", "Flips", lead, tuple(blocks))


def _table(checks: list[Record], shown: int | None) -> Table:
    columns = (
        Column("input"),
        Column("reference"),
        Column("engine"),
        Column("margin", is_number=True),
        Column("flip"),
        Column("where"),
    )
    groups = []
    for check in checks:
        flips, allowed = check["measured"]["flipped"][:shown], check["measured"]["allowed"]
        groups.append(Group(tuple(_row(flip, allowed) for flip in flips), _heading(check, len(flips))))
    return Table("Rows whose label differs, by check", columns, tuple(groups))


def _heading(check: Record, shown: int) -> str:
    measured = check["measured"]
    decided, near = measured["flips"], measured["near_flips"]
    heading = (
        f"{title(check['engine'])}, {check['name']}: {plural(decided, 'flip')} beyond the allowed "
        f"{scientific(measured['allowed'])}, {count(near)} within it"
    )
    return heading if shown == decided + near else f"{heading}; the {shown} with the largest margins"


def _row(flip: Record, allowed: float) -> tuple[Cell, ...]:
    margin, (ours, theirs) = flip["margin"], flip["labels"]
    is_decided = margin is None or not is_finite(margin) or not margin <= allowed
    return (
        Cell(flip["input"]),
        Cell(ours),
        Cell(theirs),
        Cell(scientific(margin) if is_finite(margin) and margin < 1e-3 else decimal(margin)),
        Cell("beyond the tolerance", "bad") if is_decided else Cell("near: within the tolerance", "quiet"),
        Cell(f"{flip['batch']}, row {flip['row']}"),
    )
