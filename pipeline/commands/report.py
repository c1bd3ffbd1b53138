"""`pipeline report`: parse options, print the page's path."""

from pathlib import Path

import click


@click.command("report", short_help="Write what is known about a run as one page.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), help="The run's data set, if it was moved.")
def command(run: Path, data: Path | None) -> None:
    """Write RUN/report.html, one page that needs no network, and print its path.

    A part whose file is not there yet names the command that makes it.

    \b
    pipeline report runs/sentiment-001
    """
    from pipeline.report import write_report
    from pipeline.run_directory import RunDirectory

    click.echo(write_report(RunDirectory.open(run), data))
