"""`pipeline publish`: parse options, print the version's directory."""

from pathlib import Path

import click


@click.command("publish", short_help="Put a verified run into the model repository as a new version.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--repository", type=click.Path(path_type=Path), default=Path("model_repository"))
@click.option("--name", help="The model's name; the run's own by default.")
@click.option("--version", type=click.IntRange(min=1), help="The version's number; the next free one by default.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a publish key: publish.instances=2."
)
@click.option("--variant", type=click.Choice(["int8", "fp16", "bf16"]), help="Publish this verified variant instead.")
def command(
    run: Path,
    repository: Path,
    name: str | None,
    version: int | None,
    settings: tuple[str, ...],
    variant: str | None,
) -> None:
    """Publish a verified run and print its version directory; exit 3 if it failed verification or was changed since.

    The version appears whole, by one rename, and is never overwritten.

    \b
    pipeline publish runs/sentiment-001
    pipeline publish runs/sentiment-001 --variant int8
    """
    from pipeline.publish import publish
    from pipeline.run_directory import RunDirectory

    directory = RunDirectory.open(run)
    click.echo(publish(directory, repository, name=name, version=version, settings=settings, variant=variant))
