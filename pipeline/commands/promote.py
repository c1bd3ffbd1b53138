"""`pipeline promote`: parse options, print the version that is production now."""

from pathlib import Path

import click

from pipeline.commands.options import repository_option, wait_option


@click.command("promote", short_help="Let a version answer: make the candidate, or any version, production.")
@click.argument("name")
@click.argument("version", type=click.IntRange(min=1), required=False)
@repository_option
@click.option("--reason", default="promoted", help="For the model's history.")
@wait_option
def command(name: str, version: int | None, repository: Path, reason: str, wait_seconds: float) -> None:
    """Make the candidate of a model production, or VERSION, and print its directory.

    Its files are compared with its manifest and it is asked its golden rows first: exit 3 if it is not what was
    published and verified. One rename changes what is served; a running `pipeline serve` follows by itself.

    \b
    pipeline promote sentiment
    pipeline promote sentiment 3 --reason "fewer false alarms"
    """
    from pipeline.release import promote

    number = promote(repository, name, version, reason=reason, wait_seconds=wait_seconds)
    click.echo(repository / name / str(number))
