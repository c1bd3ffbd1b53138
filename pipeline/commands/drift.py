"""`pipeline drift`: parse options, print the table, exit 3 beyond a limit."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from pipeline.errors import CheckFailed

SHARE = click.FloatRange(0, 1)
SHARES = ("unknown", "invalid")  # whose distance is a difference of shares; the others' is a stability index
WIDTHS = (10, 10, 10, 10, 10, 8, 8)


@click.command("drift", short_help="How production's requests differ from the training data.")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("logs", metavar="LOG...", nargs=-1, required=True)
@click.option("--psi", type=click.FloatRange(0), default=0.2, help="Largest population stability index.")
@click.option("--unknown", type=SHARE, default=0.05, help="Largest increase of the share of unknown words.")
@click.option("--invalid", type=SHARE, default=0.01, help="Largest share of invalid rows.")
@click.option("--window", metavar="SIZE", help="Judge also each 30m, 6h, 1d or 2w, or so many requests.")
@click.option("--model", help="Whose requests are wanted in a log.  [default: the run's name]")
@click.option("--model-version", metavar="N", help="Which of its versions, where a log has several.")
@click.option("--column", default="text", help="Column of the texts in a file of rows.")
@click.option("--data", type=click.Path(path_type=Path), help="The run's data set, if it was moved.")
@click.option("--json", "as_json", is_flag=True, help="Print drift.json instead of a table.")
def command(
    run: Path,
    logs: tuple[str, ...],
    psi: float,
    unknown: float,
    invalid: float,
    window: str | None,
    model: str | None,
    model_version: str | None,
    column: str,
    data: Path | None,
    as_json: bool,
) -> None:
    """Compare requests with what RUN was trained on, write RUN/drift.json, and exit 3 if they drifted.

    \b
    pipeline drift runs/sentiment-001 requests.jsonl*
    pipeline drift runs/sentiment-001 requests.jsonl* --window 1d
    pipeline drift runs/sentiment-001 new-reviews.csv --column review

    A LOG is one that the client's RequestLog writes, its older files in any order. Of any other file that `pipeline
    predict` reads, the rows are given to the run's own model.

    Length is held against the training split; unknown words, confidence and labels against the validation and test
    split, as the model knows its training rows by heart. A measure is drift where it is beyond its limit and beyond
    what chance makes of as many rows in 1 % of the cases, over all requests or in the last window; earlier windows show
    when it began. KS and p are shown and not judged: of many requests, any difference is significant. Fewer than 100
    requests are too few: exit code 1, and a window of fewer is not judged.
    """
    from pipeline.drift import Limits, drift
    from pipeline.run_directory import RunDirectory

    directory = RunDirectory.open(run)
    record = drift(
        directory,
        logs,
        limits=Limits(psi, unknown, invalid),
        window=window,
        model=model,
        version=model_version,
        column=column,
        data=data,
    )
    click.echo(json.dumps(record, indent=2, ensure_ascii=False) if as_json else "\n".join(table(record)))
    if record["drifted"]:
        names = ", ".join(record["drifted"])
        raise CheckFailed(f"{run}: drifted: {names}. See {directory / 'drift.json'}, or `pipeline report {run}`.")


def table(record: dict[str, Any]) -> Iterator[str]:
    """Yield the record as lines for a terminal."""
    versions = "".join(f" version {version}" for version in record["versions"])
    span = f", {record['first']} to {record['last']}" if record["first"] else ""
    yield f"{record['requests']:,} requests of {record['model']}{versions}{span}"
    if record["damaged"]["lines"]:
        yield f"left out: {record['damaged']['lines']:,} damaged lines ({'; '.join(record['damaged']['first'])})"
    if record["others"]:
        yield "left out: " + ", ".join(f"{count:,} of {name}" for name, count in record["others"].items())
    titles = ("expected", "found", "distance", "allowed", "noise", "KS", "p")
    heading = "".join(title.rjust(width) for title, width in zip(titles, WIDTHS, strict=True))
    yield f"{'measure':<16}{'against':<18}{heading}"
    yield from (_line(measure) for measure in record["measures"])
    yield from (f"{name:<16}not measured: {reason}" for name, reason in record["unmeasured"].items())
    if record["windows"]:
        yield from _windows(record["windows"], [measure["name"] for measure in record["measures"]])


def _line(measure: dict[str, Any]) -> str:
    name, unit = measure["name"], measure["unit"].removeprefix("mean ")
    title = f"{name}, {unit}" if name == "length" else name
    is_share = name in SHARES
    known = [_number(measure[key], is_share=is_share) for key in ("expected", "found")]
    distances = [_number(measure[key], is_share=is_share) for key in ("value", "allowed", "noise")]
    order = [f"{value:.3f}" for value in measure["ks"]] if measure["ks"] else ["–", "–"]
    cells = zip([*known, *distances, *order], WIDTHS, strict=True)
    verdict = "  drift" if measure["is_drift"] else ""
    return f"{title:<16}{measure['reference']:<18}" + "".join(cell.rjust(width) for cell, width in cells) + verdict


def _windows(windows: list[dict[str, Any]], names: list[str]) -> Iterator[str]:
    yield ""
    yield f"{'window from':<18}{'requests':>10}" + "".join(f"{name:>12}" for name in names)
    for window in windows:
        cells = [_cell(name, window["measures"].get(name)) for name in names]
        yield f"{window['from']:<18}{window['requests']:>10,}" + "".join(f"{cell:>12}" for cell in cells)


def _cell(name: str, judged: dict[str, Any] | None) -> str:
    """Return a window's distance, with a star beyond what is allowed."""
    if judged is None:
        return "–"
    return ("* " if judged["is_drift"] else "") + _number(judged["value"], is_share=name in SHARES)


def _number(value: float | None, *, is_share: bool) -> str:
    if value is None:
        return "–"
    return f"{value:.2%}" if is_share else f"{value:.3f}"
