"""`pipeline retire`: parse options, remove a version."""

from pathlib import Path

import click

from pipeline.commands.options import repository_option, wait_option


@click.command("retire", short_help="Remove a version that nobody is served by.")
@click.argument("name")
@click.argument("version", type=click.IntRange(min=1))
@repository_option
@wait_option
def command(name: str, version: int, repository: Path, wait_seconds: float) -> None:
    """Remove a version for good; its number is never given again. Production and the candidate are refused.

    \b
    pipeline retire sentiment 1
    """
    from pipeline.release import retire

    retire(repository, name, version, wait_seconds=wait_seconds)
