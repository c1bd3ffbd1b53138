"""`pipeline verify`: parse options, print each check."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.errors import CheckFailed

if TYPE_CHECKING:
    from pipeline.verify import Check


@click.command("verify", short_help="Prove that the exported model gives PyTorch's answers.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), help="The run's data set, if it was moved.")
@click.option("--provider", "providers", type=click.Choice(["cpu", "cuda"]), multiple=True, default=["cpu"])
@click.option("--endpoint", metavar="HOST:PORT", help="Check a live Triton gRPC endpoint as well.")
@click.option("--model", help="The model's name at the endpoint; the run's own by default.")
@click.option("--sign-key", type=click.Path(path_type=Path), help="Private key (PEM) that signs a run that passed.")
@click.option("--json", "as_json", is_flag=True, help="Print parity.json instead of a line for each check.")
def command(
    run: Path,
    data: Path | None,
    providers: tuple[str, ...],
    endpoint: str | None,
    model: str | None,
    sign_key: Path | None,
    as_json: bool,
) -> None:
    """Compare the exported model with PyTorch and write RUN/parity.json; exit 3 if any check fails.

    A grid of shapes, every vocabulary entry, hostile bytes and every held-out row must agree in probability, label and
    validity; and a row must answer the same alone, padded, shuffled and beside any other.

    A run that passed every check is signed with --sign-key into RUN/model.sig. The password of an encrypted key is read
    from $PIPELINE_SIGN_KEY_PASSWORD.

    \b
    pipeline verify runs/sentiment-001
    pipeline verify runs/sentiment-001 --endpoint 127.0.0.1:8001
    pipeline verify runs/sentiment-001 --sign-key private.pem
    """
    from pipeline.run_directory import RunDirectory
    from pipeline.signing import Signer, run_files
    from pipeline.verify import verify

    directory = RunDirectory.open(run)
    signer = Signer(sign_key) if sign_key else None  # a key that cannot sign is told before the checks
    report = verify(
        directory,
        data,
        providers=providers,
        endpoint=endpoint,
        model=model,
        progress=lambda check: click.echo(line(check), err=as_json),
    )
    if as_json:
        click.echo((directory / "parity.json").read_text(), nl=False)
    if report.failures:
        raise CheckFailed(f"{run}: not verified: {', '.join(report.failures)}. See {directory / 'parity.json'}.")
    if signer:
        click.echo(f"signed: {signer.sign(directory.path, run_files(directory))}", err=as_json)


def line(check: "Check") -> str:
    """Say one check's outcome."""
    return f"{'pass' if check.passed else 'FAIL'}  {check.engine:<22} {check.name:<19} {check.detail}"
