"""`pipeline rollback`: parse options, print the version that is production again."""

from pathlib import Path

import click

from pipeline.commands.options import repository_option, wait_option


@click.command("rollback", short_help="Go back to the version that was production before.")
@click.argument("name")
@repository_option
@click.option("--to", type=click.IntRange(min=1), metavar="VERSION", help="A version that was production at some time.")
@click.option("--reason", default="rolled back", help="For the model's history.")
@wait_option
def command(name: str, repository: Path, to: int | None, reason: str, wait_seconds: float) -> None:
    """Make the version production that was so before this one, and print its directory; again goes back further.

    It is checked as `pipeline promote` checks: exit 3 if it is not what was published and verified.

    \b
    pipeline rollback sentiment
    pipeline rollback sentiment --to 2 --reason "late-night alarms"
    """
    from pipeline.release import rollback

    number = rollback(repository, name, to, reason=reason, wait_seconds=wait_seconds)
    click.echo(repository / name / str(number))
