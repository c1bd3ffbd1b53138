"""The distances: how far the answers are apart at each shape, and how many rows are how far apart."""

import math

from pipeline.report.blocks import (
    Block,
    Cell,
    Column,
    Drawing,
    Drawings,
    Fold,
    Group,
    Heat,
    HeatMap,
    Note,
    Section,
    Table,
)
from pipeline.report.drawing import histogram
from pipeline.report.engines import compared, title
from pipeline.report.records import Record, Records, expecting
from pipeline.report.words import NONE, count, is_finite, plural, scientific

_SHADED_DECADES = 4  # from a ten-thousandth of what is allowed, which has no shade, to all of it
_NAN = "NaN"  # what a distance to a number that is not finite is; null in JSON


def section(records: Records) -> Section:
    """Show each engine's heat map of shapes, and the distribution of the rows' distances."""
    lead = (
        "How far probabilities are apart. In a heat map a shade is the deeper the nearer a figure comes to what is "
        "allowed, and ✗ marks what is beyond it; in a histogram both axes are logarithmic."
    )
    if records.parity is None:
        return Section("distances", "Distances", lead, missing="verify")
    with expecting(records.run / "parity.json", "verify"):
        checks = compared(records.parity)
        maps = [_heat_map(check) for check in checks if "grid" in check["measured"]]
        blocks = (*maps, *_histograms([check for check in checks if "histogram" in check["measured"]]))
    return Section("distances", "Distances", lead, blocks or (Note("No check has compared answers by shape or row."),))


def _heat_map(check: Record) -> HeatMap:
    places, allowed = check["measured"]["grid"], check["measured"]["allowed"]
    heats = {(at["batch"], at["arrangement"], at["length"]): _heat(at["max_absolute"], allowed) for at in places}
    batches, lengths = (sorted({at[axis] for at in places}) for axis in ("batch", "length"))
    arrangements = dict.fromkeys(at["arrangement"] for at in places)

    def row(batch: int, arrangement: str) -> tuple[str, tuple[Heat, ...]]:
        return arrangement, tuple(heats.get((batch, arrangement, length), Heat(NONE)) for length in lengths)

    groups = tuple((count(batch), tuple(row(batch, name) for name in arrangements)) for batch in batches)
    caption = (
        f"Largest |Δ probability| by shape: {title(check['engine'])}, {check['name']}; allowed {scientific(allowed)}"
    )
    corners = ("batch", "lengths", "greatest length")
    return HeatMap(caption, corners, tuple(count(length) for length in lengths), groups)


def _heat(distance: float | None, allowed: float) -> Heat:
    if distance is None or not is_finite(distance) or not distance <= allowed:
        return Heat(_NAN if distance is None else scientific(distance), 1.0, is_bad=True)
    decades = math.log10(distance / allowed) if distance > 0 else -math.inf
    return Heat(scientific(distance), max(0.0, 1 + decades / _SHADED_DECADES))


def _histograms(checks: list[Record]) -> list[Block]:
    """Draw the sum over each engine's checks of one tolerance, and each check's own in a fold."""
    if not checks:
        return []
    alike: dict[tuple[str, float], list[Record]] = {}
    for check in checks:
        alike.setdefault((check["engine"], check["measured"]["allowed"]), []).append(check)
    sums = tuple(_drawing(title(engine), together) for (engine, _), together in alike.items())
    each = tuple(_drawing(f"{title(check['engine'])}, {check['name']}", [check]) for check in checks)
    return [
        Drawings(sums),
        Fold("Every check by itself", (Drawings(each),)),
        Fold("Every bin in figures", _bins(alike)),
    ]


def _drawing(name: str, checks: list[Record]) -> Drawing:
    edges, counts, not_finite = _sum(checks)
    allowed = checks[0]["measured"]["allowed"]
    beyond = sum(rows for edge, rows in zip([*edges, math.inf], counts, strict=True) if edge > allowed)
    words = (
        f"{name}: {plural(sum(counts) + not_finite, 'row')}, {count(beyond)} beyond the allowed {scientific(allowed)}"
    )
    if not_finite:
        words += f", {count(not_finite)} not finite"
    if len(checks) > 1:
        words += f" ({', '.join(check['name'] for check in checks)})"
    return Drawing(f"{words}.", histogram(f"Histogram. {words}.", edges, counts, not_finite, allowed))


def _sum(checks: list[Record]) -> tuple[list[float], list[int], int]:
    """Return the edges that all checks share, the rows in each bin, and those that are not finite."""
    found = [check["measured"]["histogram"] for check in checks]
    counts = [sum(rows) for rows in zip(*(one["counts"] for one in found), strict=True)]
    return found[0]["edges"], counts, sum(one["not_finite"] for one in found)


def _bins(alike: dict[tuple[str, float], list[Record]]) -> tuple[Table, ...]:
    tables = []
    for (engine, allowed), checks in alike.items():
        edges, counts, not_finite = _sum(checks)
        names = [*(f"up to {scientific(edge)}" for edge in edges), f"above {scientific(edges[-1])}", "not finite"]
        numbers = [*counts, not_finite]
        rows = tuple((Cell(name), Cell(count(rows))) for name, rows in zip(names, numbers, strict=True) if rows)
        caption = f"{title(engine)}; allowed {scientific(allowed)}"
        tables.append(Table(caption, (Column("max |Δ| of a row"), Column("rows", is_number=True)), (Group(rows),)))
    return tuple(tables)
