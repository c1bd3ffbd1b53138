"""`pipeline rollout`: publish a run as candidate if one is given, roll it out, and tell the steps as they pass."""

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.commands.options import access_options, repository_option
from pipeline.commands.signals import stop_on_signals

if TYPE_CHECKING:
    from pipeline.client import Access, Row
    from pipeline.rollout import RollingBack, Step, Trial


@click.command("rollout", short_help="Bring a candidate into production on a running server, or back by itself.")
@click.argument("run_or_name", metavar="RUN|NAME")
@click.option("--url", default="127.0.0.1:8001", help="Host and gRPC port of the server.")
@repository_option
@access_options
@click.option("--name", help="Publish RUN under this name; the run's own by default.")
@click.option("--shadow", metavar="FILE", help="Ask production and candidate the rows of a file, and compare.")
@click.option("--column", default="text", help="Column of the texts in a CSV, TSV, JSONL or Parquet file.")
@click.option("--shadow-rows", type=click.IntRange(1), default=1000, help="The most rows of the file to ask.")
@click.option(
    "--canary-share",
    type=click.FloatRange(0, 1, min_open=True),
    help="Let the candidate answer this part of the rows in production's place; failures and times are compared.",
)
@click.option(
    "--max-differing",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.05,
    help="The part of the labels that may differ from production's.",
)
@click.option(
    "--max-slowdown",
    type=click.FloatRange(0, min_open=True),
    default=2.0,
    help="How many times production's median time the candidate's may be.",
)
@click.option(
    "--timeout-seconds", type=click.FloatRange(1), default=60.0, help="For one load, one unload or one answer."
)
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
def command(
    run_or_name: str,
    url: str,
    repository: Path,
    access: "Access",
    name: str | None,
    shadow: str | None,
    column: str,
    shadow_rows: int,
    canary_share: float | None,
    max_differing: float,
    max_slowdown: float,
    timeout_seconds: float,
    as_json: bool,
) -> None:
    """Publish RUN as candidate, try it on a running server, and make it production; or put all back as it was.

    The candidate is loaded beside production, where no caller reaches it, warmed, and asked the golden rows of its
    parity report; with --shadow it answers the rows of a file as production does, nearly, and about as fast. Then it
    becomes production, the server loads it, and production is asked the golden rows. Callers notice nothing.

    When a check fails (exit 3), or the way is barred or Ctrl-C or SIGTERM ends it (exit 1), production is put back and
    asked its own golden rows. What failed a check is no candidate any more; what was cut short still is.

    With the NAME of a model, its candidate is rolled out; where it has none, the server is brought to what is
    production.

    The server must allow loading (Triton's explicit model control; `pipeline serve` does), and read this repository.
    Its token, where it has one, is read from $PIPELINE_TOKEN. NAME/rollout.json keeps the record.

    \b
    pipeline rollout runs/sentiment-002
    pipeline rollout runs/sentiment-002 --shadow reviews.csv --column review --max-differing 0.02
    pipeline rollout sentiment --url gateway:8001 --ca ca.pem --certificate me.pem --key me.key
    """
    from pipeline.rollout import Live, Record, rollout

    live = Live(url, access, timeout_seconds)
    trial = _trial(shadow, column, shadow_rows, canary_share, max_differing, max_slowdown)
    model, publish = _source(run_or_name, name, repository)
    with stop_on_signals() as stop, closing(rollout(model, repository, live, stop, trial, publish)) as events:
        for event in events:
            if not isinstance(event, Record):
                click.echo(_text(event), err=True)
            elif as_json:
                click.echo(json.dumps(event.content))
            elif event.outcome == "rolled out":
                click.echo(f"{event.name}: version {event.version} is production on {event.url}")


def _source(run_or_name: str, name: str | None, repository: Path) -> tuple[str, Callable[[], None]]:
    """Return the model to roll out, and what publishes its run as candidate, if that is what was given."""
    from pipeline.publish import publish
    from pipeline.run_directory import RunDirectory

    path = Path(run_or_name)
    if not (path / "run.json").is_file() and path.name == run_or_name:
        return run_or_name, lambda: None
    run = RunDirectory.open(path)

    def make_candidate() -> None:
        published = publish(run, repository, name=name, alias="candidate")
        click.echo(f"{published}: published as candidate", err=True)

    return name or run.info["name"], make_candidate


def _trial(
    source: str | None, column: str, most: int, share: float | None, max_differing: float, max_slowdown: float
) -> "Trial | None":
    from pipeline.errors import UsageError
    from pipeline.rollout import Trial

    if source is None:
        if share is not None:
            raise UsageError("--canary-share: of which rows? Give a file of them with --shadow.")
        return None
    return Trial(_rows(source, column, most), share, max_differing, max_slowdown)


def _rows(source: str, column: str, most: int) -> "list[Row]":
    """Read the rows before anything is published, so that a file that cannot be read changes nothing."""
    from itertools import islice

    from pipeline.predict.inputs import items_of_file

    return [item.row for item in islice(items_of_file(source, column), most)]


def _text(event: "Step | RollingBack") -> str:
    from pipeline.rollout import RollingBack

    if isinstance(event, RollingBack):
        return f"going back: {event.reason}"
    figures = ", ".join(f"{name} {value:g}" for name, value in event.figures.items())
    return f"{event.seconds:6.2f} s  {event.name}" + (f": {figures}" if figures else "")
