"""`pipeline bench verify`: parse options, print seconds and the ratio."""

import json
import statistics
from pathlib import Path
from typing import Any

import click


@click.command("verify")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), help="The run's data set, if it was moved.")
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True, help="Of all ways, in turn.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(run: Path, data: Path | None, repeats: int, as_json: bool) -> None:
    """Compare the time that `pipeline verify` takes over all held-out rows with the bare inference of both its sides.

    \b
    pipeline bench verify runs/sentiment-001
    """
    from pipeline.bench.verification import bench_verification
    from pipeline.run_directory import RunDirectory

    record = bench_verification(
        RunDirectory.open(run), data, repeats=repeats, progress=lambda text: click.echo(text, err=True)
    )
    click.echo(json.dumps(record, indent=2) if as_json else verification_table(record))


def verification_table(record: dict[str, Any]) -> str:
    """Return seconds and the ratio as a table."""
    lines = [f"{'way':<12}  {'seconds':>8}  {'spread':>16}"]
    for way, seconds in record["seconds"].items():
        spread = f"{min(seconds):.2f} to {max(seconds):.2f}"
        lines.append(f"{way:<12}  {statistics.median(seconds):>8.2f}  {spread:>16}")
    ratios = record["ratios"]
    return "\n".join(
        [
            *lines,
            f"verifying takes {record['ratio']:.2f} times as long as both bare ones ({min(ratios):.2f} to "
            f"{max(ratios):.2f})",
            f"{record['rows']:,} rows in batches of {record['batch_size']}; {record['processor']}, "
            f"{record['cores']} cores",
        ]
    )
