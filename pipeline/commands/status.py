"""`pipeline status`: parse options, lay out what is in the repository; exit 3 when something is wrong."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.commands.options import access_options, repository_option
from pipeline.errors import CheckFailed

if TYPE_CHECKING:
    from pipeline.client import Access
    from pipeline.release import ModelStatus

_HEADING = ("model", "version", "alias", "variant", "accuracy", "published", "MB", "files")


@click.command("status", short_help="Show versions and aliases, check every file, compare with a server.")
@click.argument("name", required=False)
@repository_option
@click.option("--url", metavar="HOST:PORT", help="Compare with what the server at this gRPC port really serves.")
@access_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def command(access: "Access", name: str | None, repository: Path, url: str | None, as_json: bool) -> None:
    """Show each version of one model, or of all, and compare its files with the SHA-256 in its manifest.

    With --url, what the repository says is compared with what the server resolved: versions that are ready, version
    policy, parameters, statistics. Exit 3, naming each difference, when a file is damaged or the server differs.

    \b
    pipeline status
    pipeline status sentiment --url 127.0.0.1:8001
    """
    import dataclasses

    from pipeline.release import status

    models = status(repository, name, url=url, access=access)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(model) for model in models], indent=2, ensure_ascii=False))
    else:
        click.echo(table(models))
    problems = [problem for model in models for problem in model.problems]
    for problem in problems:
        click.echo(problem, err=as_json)
    if problems:
        raise CheckFailed(f"{repository}: {len(problems)} {'difference' if len(problems) == 1 else 'differences'}.")


def table(models: "list[ModelStatus]") -> str:
    """Lay out the versions of some models, and what a server answered from."""
    rows = [_HEADING]
    rows += [
        (
            model.name,
            str(version.version),
            version.alias or "–",
            version.variant,
            "–" if version.test_accuracy is None else f"{version.test_accuracy:.2%}",
            version.published,
            f"{version.bytes / 1e6:.1f}",
            "damaged" if version.faults else "whole",
        )
        for model in models
        for version in model.versions
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += [
        f"{served.model}: version {version} answers; {count:,} requests so far"
        for model in models
        for served in model.served
        for version, count in served.answered.items()
    ]
    return "\n".join(lines)
