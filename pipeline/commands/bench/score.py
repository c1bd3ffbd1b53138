"""`pipeline bench score`: parse options, print the ratio."""

import json
import statistics
from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("source", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--column", default="text", show_default=True, help="Column of the texts.")
@click.option("--variant", type=click.Choice(["int8", "fp16", "bf16"]), help="Of a run: this verified variant.")
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True, help="Of both ways, in turn.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def score(model: Path, source: Path, column: str, variant: str | None, repeats: int, as_json: bool) -> None:
    """Compare `pipeline score` of FILE, with all its processes and files, with the bare inference of its rows.

    Bare: the rows in memory, sorted by length, in batches of the same size, one on each core at once.

    \b
    pipeline bench score runs/sentiment-001 reviews.parquet
    """
    from pipeline.bench.scoring import bench_scoring

    record = bench_scoring(
        model,
        source,
        column=column,
        variant=variant,
        repeats=repeats,
        progress=lambda text: click.echo(text, err=True),
    )
    click.echo(json.dumps(record, indent=2) if as_json else scoring_table(record))


def scoring_table(record: dict[str, Any]) -> str:
    """Return rows a second and the ratio as a table."""
    lines = [f"{'way':<6}  {'rows/s':>9}  {'spread':>21}"]
    for way, seconds in record["seconds"].items():
        speeds = [record["rows"] / value for value in seconds]
        spread = f"{min(speeds):,.0f} to {max(speeds):,.0f}"
        lines.append(f"{way:<6}  {statistics.median(speeds):>9,.0f}  {spread:>21}")
    ratios = record["ratios"]
    return "\n".join(
        [
            *lines,
            f"scoring has {record['ratio']:.0%} of the bare speed ({min(ratios):.0%} to {max(ratios):.0%})",
            f"{record['rows']:,} rows; {record['processor']}, {record['cores']} cores",
        ]
    )
