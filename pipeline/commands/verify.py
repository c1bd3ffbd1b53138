"""`pipeline verify`: parse options, print each check."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.errors import CheckFailed, UsageError

if TYPE_CHECKING:
    from pipeline.verify import Check


@click.command("verify", short_help="Prove that the exported model gives PyTorch's answers.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), help="The run's data set, if it was moved.")
@click.option("--provider", "providers", type=click.Choice(["cpu", "cuda"]), multiple=True, default=["cpu"])
@click.option("--endpoint", metavar="HOST:PORT", help="Check a live Triton gRPC endpoint as well.")
@click.option("--model", help="The model's name at the endpoint; the run's own by default.")
@click.option("--only", metavar="CHECK", multiple=True, help="Make this check alone (repeatable), and write nothing.")
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), help="Write the outcome as JUnit XML too.")
@click.option("--json", "as_json", is_flag=True, help="Print parity.json instead of a line for each check.")
def command(
    run: Path,
    data: Path | None,
    providers: tuple[str, ...],
    endpoint: str | None,
    model: str | None,
    only: tuple[str, ...],
    junit: Path | None,
    as_json: bool,
) -> None:
    """Compare the exported model with PyTorch and write RUN/parity.json; exit 3 if any check fails.

    A grid of shapes, every vocabulary entry, hostile bytes and every held-out row must agree in probability, label and
    validity; and a row must answer the same alone, padded, shuffled and beside any other.

    \b
    pipeline verify runs/sentiment-001
    pipeline verify runs/sentiment-001 --endpoint 127.0.0.1:8001
    pipeline verify runs/sentiment-001 --only grid --only padded
    """
    from pipeline.run_directory import RunDirectory
    from pipeline.verify import verify, write_junit

    if only and (junit or as_json):
        raise UsageError(
            "--only makes a part of the checks: it cannot be --json or --junit, which stand for all of them."
        )
    directory = RunDirectory.open(run)
    report = verify(
        directory,
        data,
        providers=providers,
        endpoint=endpoint,
        model=model,
        only=only,
        progress=lambda check: click.echo(line(check), err=as_json),
    )
    if junit:
        write_junit(report, junit)
    if as_json:
        click.echo((directory / "parity.json").read_text(), nl=False)
    if only:
        click.echo("A part of the checks is no verification: parity.json is as it was.", err=True)
    if report.failures:
        see = "" if only else f" See {directory / 'parity.json'}."
        raise CheckFailed(f"{run}: not verified: {', '.join(report.failures)}.{see}")


def line(check: "Check") -> str:
    """Say one check's outcome."""
    return f"{'pass' if check.passed else 'FAIL'}  {check.engine:<22} {check.name:<19} {check.detail}"
