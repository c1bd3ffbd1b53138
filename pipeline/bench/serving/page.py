"""The page of a benchmark: each scenario's figures and latencies, and what the server did."""

from collections import Counter
from typing import Any

from pipeline.report.blocks import (
    Block,
    Cell,
    Column,
    Drawing,
    Drawings,
    Facts,
    Figure,
    Group,
    Head,
    Note,
    Page,
    Section,
    Table,
)
from pipeline.report.drawing import Series, curves, plot, shares
from pipeline.report.stage import render
from pipeline.report.words import count, decimal, plural

Record = dict[str, Any]
JUDGED_BY = {"SingleStream": "p90", "MultiStream": "p99", "Server": "p99"}
_MOST_BARS = 8
_HIGHEST = 3  # times the bound: how far beyond it a p99 is drawn


def page(record: Record) -> str:
    """Return a self-contained HTML page for what `bench_serving` returns."""
    found = record["measurements"]
    faults = [one for one in found if not one["is_valid"]]
    sentence = (
        f"{plural(record['texts'], 'text')} of {decimal(record['mean_bytes'], 0)} bytes on average; "
        f"{record['processor']}, {plural(record['cores'], 'core')}, the client's included. Load by MLCommons LoadGen."
    )
    head = Head(
        name=record["target"],
        tone="bad" if faults else "good",
        verdict="Not valid" if faults else "Valid",
        sentence=sentence,
        figures=tuple(_figure(one) for one in found),
    )
    return render(Page("", head, (_overview(found), *map(_section, found)), kind="Benchmark of a served model"))


def _figure(one: Record) -> Figure:
    name, p99 = one["scenario"]["name"], one["latency_ms"]["p99"]
    if name == "Server":
        return Figure(f"{one['scenario']['rate']:,.0f}/s", name, f"p99 {p99:.1f} of {one['scenario']['p99_ms']:g} ms")
    if name == "Offline":
        return Figure(f"{one['samples_per_second']:,.0f}/s", name, f"{one['samples']:,} texts")
    judged = JUDGED_BY[name]
    return Figure(f"{one['latency_ms'][judged]:.2f} ms", f"{name}, {judged}", f"{one['samples_per_second']:,.0f}/s")


def _overview(found: list[Record]) -> Section:
    percentiles = ("p50", "p90", "p95", "p99", "p999", "max")
    columns = (Column("scenario"), *(Column(title, is_number=True) for title in ("texts", "a second", *percentiles)))
    rows = tuple(
        (
            Cell(one["scenario"]["name"]),
            Cell(count(one["samples"])),
            Cell(f"{one['samples_per_second']:,.1f}"),
            *(Cell(decimal(one["latency_ms"][name], 2)) for name in percentiles),
            Cell("; ".join(one["faults"]) or "valid", "good" if one["is_valid"] else "bad"),
        )
        for one in found
    )
    lead = (
        "Milliseconds: of a request in SingleStream and MultiStream; of a text in Server, from when it was due, and in "
        "Offline, from the start."
    )
    table = Table("Latencies and throughput", (*columns, Column("verdict")), (Group(rows),))
    return Section("overview", "All scenarios", lead, (table,))


def _section(one: Record) -> Section:
    name = one["scenario"]["name"]
    settings = ", ".join(f"{key} {value:g}" for key, value in one["scenario"].items() if key != "name")
    blocks: list[Block] = [Note(fault, "bad") for fault in one["faults"]]
    limit = one["scenario"].get("p99_ms")
    cdf = [(latency, 100 * share) for latency, share in one["cdf"]]
    drawings = [Drawing("How many are answered within which time", plot(f"{name}: latency", "ms", "%", cdf))]
    if one["trials"]:
        trials = sorted((trial["rate"], min(trial["p99_ms"], _HIGHEST * limit)) for trial in one["trials"])
        svg = plot(f"{name}: rate against p99", "texts/s", "p99, ms", trials, limit=limit, is_line=False)
        drawings.append(
            Drawing(f"Each rate that was tried, and its p99, up to {_HIGHEST} times the bound (dashed)", svg)
        )
        drawings += _server_by_rate(name, one["trials"])
    if one["server"] and one["server"]["rows_of_batches"]:
        svg = shares(f"{name}: rows of a batch", "rows", "% of the batches", _bars(one["server"]["rows_of_batches"]))
        drawings.append(Drawing("How many rows Triton's batches had", svg))
    blocks += [Drawings(tuple(drawings)), Facts(tuple(_facts(one)))]
    return Section(name.lower(), name, f"{settings}.", tuple(blocks))


def _server_by_rate(name: str, trials: list[Record]) -> list[Drawing]:
    """Show what Triton's counts say at each rate; of two trials at one rate, the later."""
    counted = {round(trial["rate"]): trial["server"] for trial in trials if trial["server"]}
    if len(counted) < 2:
        return []
    rates, found = zip(*sorted(counted.items()), strict=True)
    times = [
        Series("queue", [one["queue_ms"] for one in found]),
        Series("compute", [one["compute_ms"] for one in found], 2),
    ]
    batches = [(float(rate), one["mean_batch"]) for rate, one in zip(rates, found, strict=True)]
    return [
        Drawing(
            "What a request waits in Triton's queue and is computed, at each rate",
            curves(f"{name}: queue and compute time", "ms", rates, times, None, "texts/s"),
        ),
        Drawing(
            "Rows in a batch, at each rate", plot(f"{name}: mean batch", "texts/s", "rows", batches, is_line=False)
        ),
    ]


def _bars(rows_of_batches: dict[str, int]) -> list[tuple[str, float]]:
    """Return the share of the batches in each of a few ranges of sizes, each twice as wide as the last."""
    total = sum(rows_of_batches.values())
    ranges: Counter[int] = Counter()
    for rows, batches in rows_of_batches.items():
        ranges[1 << (int(rows).bit_length() - 1)] += batches
    shown = [(f"{first}+" if first > 1 else "1", batches / total) for first, batches in sorted(ranges.items())]
    return shown[-_MOST_BARS:]


def _facts(one: Record) -> list[tuple[str, str]]:
    client, checked = one["client"], one["checked"]
    facts = [
        ("client", f"{client['processes']} of them, {client['cpu_seconds']:.2f} CPU seconds in {one['seconds']:.1f} s"),
        ("client alone", f"asks {client['ceiling_per_second']:,.0f} texts/s where sending costs nothing"),
        ("checked", f"{plural(checked, 'answer')}, {one['wrong']:,} of them wrong"),
        (
            "LoadGen's verdict",
            one["loadgen"] if one["loadgen"] == "VALID" else "a submission wants more queries or time",
        ),
    ]
    if server := one["server"]:
        facts += [
            ("batches", f"{server['mean_batch']:.1f} rows on average"),
            ("queue", f"{server['queue_ms']:.2f} ms of a request, on average"),
            ("compute", f"{server['compute_ms']:.2f} ms of a request, on average"),
        ]
    return facts
