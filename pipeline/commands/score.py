"""`pipeline score`: parse options, show the progress, print where the scored files lie."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

if TYPE_CHECKING:
    from pipeline.score import Record


@click.command("score", short_help="Add predictions to files that are larger than memory.")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--to", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Folder of the scored files.")
@click.option("--column", default="text", help="Column of the texts.")
@click.option("--prefix", default="", show_default=False, help="What the names of the new columns begin with.")
@click.option("--variant", type=click.Choice(["int8", "fp16", "bf16"]), help="Of a run: this verified variant.")
@click.option("--on-bad-row", type=click.Choice(["skip", "fail"]), default="fail", help="Rows that cannot be read.")
@click.option("--workers", type=click.IntRange(1), show_default="one for each core", help="Processes that score.")
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", help="Where they run.")
@click.option("--shard-rows", type=click.IntRange(1), default=16_384, help="Rows that one interruption costs a worker.")
@click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON.")
def command(
    model: Path,
    inputs: tuple[Path, ...],
    to: Path,
    column: str,
    prefix: str,
    variant: str | None,
    on_bad_row: str,
    workers: int | None,
    engine: Literal["local", "ray"],
    shard_rows: int,
    as_json: bool,
) -> None:
    """Copy files into DIR with a prediction in every row, in this process's machine, without a server.

    \b
    pipeline score runs/sentiment-001 reviews.parquet --to scored
    pipeline score model_repository/sentiment months/ --to scored --column review --prefix predicted_
    pipeline score runs/sentiment-001 reviews.csv --to scored --variant int8 --workers 4
    RAY_ADDRESS=head:6379 pipeline score runs/sentiment-001 /shared/reviews --to /shared/scored --engine ray

    MODEL is a verified run, or a published model or version: model_repository/NAME[/VERSION]. An INPUT is a .parquet
    .csv .tsv .jsonl or .ndjson file, or a folder of them, of any size. Its copy keeps name, rows, columns and order,
    and has more columns: `label`, `probability`, `probabilities` (in CSV and TSV one for each class, `probability of
    CLASS`) and `valid`. A text that is not UTF-8 has `valid` false and no label; null is an empty text.

    Whatever ends it (Ctrl-C, kill -9, a full disk, a power cut), the same command goes on where it was, and no row is
    there twice. With another model, other options or changed inputs it refuses. --engine ray runs on this machine, or
    on the cluster that $RAY_ADDRESS names, whose nodes must see the same files under the same names.
    """
    from pipeline.score import score

    with _progress() as progress:
        record = score(
            model,
            inputs,
            to,
            column=column,
            prefix=prefix,
            variant=variant,
            skips_bad_rows=on_bad_row == "skip",
            shard_rows=shard_rows,
            workers=workers or 0,
            engine=engine,
            progress=progress,
        )
    if record.counts.skipped:
        click.echo(_skipped(record), err=True)
    click.echo(json.dumps(asdict(record), indent=2) if as_json else to)


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Give what shows how many rows of how many are done: a bar on standard error, if that is a terminal."""
    with contextlib.ExitStack() as stack:
        bars: list[Any] = []

        def show(done: int, rows: int) -> None:
            if not bars:
                is_hidden = not sys.stderr.isatty()
                bar = click.progressbar(length=rows, file=sys.stderr, show_pos=True, hidden=is_hidden)
                bars.append(stack.enter_context(bar))
            bars[0].update(done - bars[0].pos)

        yield show


def _skipped(record: "Record") -> str:
    counts = record.counts
    more = "; …" if counts.skipped > len(counts.named) else ""
    return f"skipped {counts.skipped:,} bad row(s): {'; '.join(counts.named)}{more}"
