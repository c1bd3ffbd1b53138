"""`pipeline publish`: parse options, print the version's directory."""

from pathlib import Path
from typing import Literal

import click

from pipeline.commands.options import repository_option, wait_option


@click.command("publish", short_help="Put a verified run into the model repository as a new version.")
@click.argument("run", type=click.Path(path_type=Path))
@repository_option
@click.option("--name", help="The model's name; the run's own by default.")
@click.option("--version", type=click.IntRange(min=1), help="The version's number; the next free one by default.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a publish key: publish.instances=2."
)
@click.option("--variant", type=click.Choice(["int8", "fp16", "bf16"]), help="Publish this verified variant instead.")
@click.option(
    "--config-patch",
    type=click.Path(path_type=Path),
    help="Patch to config.pbtxt, as `pipeline tune` writes it; it names the variant.",
)
@click.option(
    "--as",
    "alias",
    type=click.Choice(["production", "candidate", "none"]),
    default="production",
    help="What it is at once: served as NAME, as NAME.candidate, or not.",
)
@wait_option
@click.option(
    "--require-signature", type=click.Path(path_type=Path), help="Public key (PEM) that must have signed RUN."
)
@click.option("--sign-key", type=click.Path(path_type=Path), help="Private key (PEM) that signs the version.")
def command(
    run: Path,
    repository: Path,
    name: str | None,
    version: int | None,
    settings: tuple[str, ...],
    variant: str | None,
    config_patch: Path | None,
    alias: Literal["production", "candidate", "none"],
    wait_seconds: float,
    require_signature: Path | None,
    sign_key: Path | None,
) -> None:
    """Publish a verified run and print its version directory; exit 3 if it failed verification or was changed since.

    The version appears whole, by one rename, and is never overwritten. As production it is what NAME serves; as
    candidate it is served beside it as NAME.candidate until `pipeline promote`.

    With --require-signature, a run is refused (exit 3) unless `pipeline verify --sign-key` signed it as it is. With
    --sign-key, the version is signed into its model.sig, which anybody checks with `model_signing verify key`. The
    password of an encrypted key is read from $PIPELINE_SIGN_KEY_PASSWORD.

    \b
    pipeline publish runs/sentiment-001
    pipeline publish runs/sentiment-001 --variant int8 --as candidate
    pipeline publish runs/sentiment-001 --config-patch runs/sentiment-001/tuned.pbtxt
    pipeline publish runs/sentiment-001 --require-signature public.pem --sign-key private.pem
    """
    from pipeline.publish import publish
    from pipeline.run_directory import RunDirectory

    directory = RunDirectory.open(run)
    published = publish(
        directory,
        repository,
        name=name,
        version=version,
        settings=settings,
        variant=variant,
        config_patch=config_patch,
        alias=alias,
        wait_seconds=wait_seconds,
        require_signature=require_signature,
        sign_key=sign_key,
    )
    click.echo(published)
