"""Drift: how the requests of production differ from the data that was learned from."""

import shlex

from pipeline.report.blocks import Block, Cell, Column, Drawing, Drawings, Facts, Fold, Group, Note, Section, Table
from pipeline.report.drawing import Series, curves
from pipeline.report.records import Record, Records, expecting
from pipeline.report.words import NONE, count, decimal, percent, plural

_SHARES = ("unknown", "invalid")  # whose distance is a difference of shares; the others' is a stability index
_MOST_BINS = 30


def section(records: Records) -> Section:
    """Show what `pipeline drift` found, and when it began."""
    anchor, title, lead = "drift", "Drift", "How the requests of production differ from the data it learned from."
    if records.drift is None:
        note = f"No requests were compared yet. `pipeline drift {shlex.quote(str(records.run.path))} LOG` does it."
        return Section(anchor, title, lead, (Note(note, "quiet"),))
    with expecting(records.run / "drift.json", "drift"):
        if records.drift["model_sha256"] != records.digests.get("model.onnx"):
            stale = "drift.json belongs to another model than this run holds now: run `pipeline drift` again."
            return Section(anchor, title, lead, (Note(stale, "bad"),))
        return Section(anchor, title, lead, tuple(_blocks(records.drift)))


def _blocks(drift: Record) -> list[Block]:
    names = drift["drifted"]
    where = "over all requests or in the last window" if drift["windows"] else "over all requests"
    verdict = f"Beyond what is allowed {where}: {', '.join(names)}." if names else "Nothing is beyond what is allowed."
    blocks: list[Block] = [Note(verdict, "bad" if names else "good"), _measures(drift), Facts(tuple(_facts(drift)))]
    if drift["windows"]:
        blocks += [Drawings(tuple(_trend(measure, drift) for measure in drift["measures"])), _windows(drift)]
    return blocks + [_bins(measure) for measure in drift["measures"] if measure["bins"]]


def _measures(drift: Record) -> Table:
    titles = ("expected", "found", "distance", "allowed", "by chance", "KS", "p")
    columns = (Column("measure"), Column("held against"), *(Column(title, is_number=True) for title in titles))
    lines = []
    for measure in drift["measures"]:
        name = measure["name"]
        kolmogorov = [decimal(value, 3) for value in measure["ks"]] if measure["ks"] else [NONE, NONE]
        lines.append(
            (
                Cell(f"{name}, {measure['unit']}" if measure["unit"] else name),
                Cell(f"{measure['reference']}, {count(rows)} rows" if (rows := measure["reference_rows"]) else NONE),
                *(Cell(NONE if (value := measure[key]) is None else _figure(name, value)) for key in titles[:2]),
                Cell(_figure(name, measure["value"]), "bad" if measure["is_drift"] else "good"),
                *(Cell(_figure(name, measure[key])) for key in ("allowed", "noise")),
                *map(Cell, kolmogorov),
            )
        )
    caption = (
        "Distance: the population stability index, or the increase of the share. By chance: what it exceeds in 1 % of "
        "the cases without drift. KS: Kolmogorov and Smirnov's statistic"
    )
    return Table(caption, columns, (Group(tuple(lines)),))


def _facts(drift: Record) -> list[tuple[str, str]]:
    versions = "".join(f" version {version}" for version in drift["versions"])
    facts = [("requests", f"{count(drift['requests'])} of {drift['model']}{versions}")]
    if drift["first"]:
        facts.append(("time", f"{drift['first']} to {drift['last']}"))
    facts += [
        (file["file"], f"{plural(file['requests'], 'request')}, SHA-256 {file['sha256']}") for file in drift["files"]
    ]
    facts += [(f"{name}: not measured", reason) for name, reason in drift["unmeasured"].items()]
    if drift["damaged"]["lines"]:
        first = "; ".join(drift["damaged"]["first"])
        facts.append(("left out", f"{plural(drift['damaged']['lines'], 'damaged line')}: {first}"))
    facts += [("left out", f"{plural(number, 'request')} of {name}") for name, number in drift["others"].items()]
    return facts


def _trend(measure: Record, drift: Record) -> Drawing:
    """Draw a measure's distance in each window, beside what is allowed."""
    name = measure["name"]
    judged = [window["measures"].get(name, {}) for window in drift["windows"]]
    lines = [Series(key, [one.get(key) for one in judged], style) for style, key in enumerate(("value", "allowed"), 1)]
    unit = "% more" if name in _SHARES else "stability index"
    words = f"{name.capitalize()}: distance in each window of {drift['window']}, and what is allowed."
    return Drawing(words, curves(words, unit, range(1, len(judged) + 1), lines, None, "window"))


def _windows(drift: Record) -> Fold:
    names = [measure["name"] for measure in drift["measures"]]
    rows = []
    for number, window in enumerate(drift["windows"], 1):
        judged = [window["measures"].get(name) for name in names]
        cells = (
            Cell(_figure(name, one["value"]), "bad" if one["is_drift"] else "plain") if one else Cell(NONE, "quiet")
            for name, one in zip(names, judged, strict=True)
        )
        rows.append((Cell(str(number)), Cell(window["from"]), Cell(count(window["requests"])), *cells))
    columns = (Column("window"), Column("from"), *(Column(title, is_number=True) for title in ("requests", *names)))
    caption = "Distance in each window; windows of too few requests are not judged"
    return Fold(plural(len(rows), "window"), (Table(caption, columns, (Group(tuple(rows)),)),))


def _bins(measure: Record) -> Fold:
    """Show the shares of the rows in each bin; of many classes those whose shares differ most."""
    bins = measure["bins"]
    if len(bins) > _MOST_BINS:
        bins = sorted(bins, key=lambda one: -abs(one[2] - one[1]))[:_MOST_BINS]
    rows = tuple((Cell(str(name)), Cell(percent(known)), Cell(percent(found))) for name, known, found in bins)
    columns = (
        Column(measure["name"]),
        Column(measure["reference"], is_number=True),
        Column("requests", is_number=True),
    )
    title = f"{measure['name'].capitalize()}: shares of the rows"
    return Fold(title, (Table(title, columns, (Group(rows),)),))


def _figure(name: str, value: float) -> str:
    return percent(value) if name in _SHARES else decimal(value, 3)
