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
@click.option(
    "--engine",
    "engines",
    multiple=True,
    metavar="NAME",
    help="Check another engine as well: pytorch, pytorch-float64, cpu, cpu-none, cpu-basic, cpu-extended, cuda, "
    "cuda-tf32, evaluator, grpc://HOST:PORT or http://HOST:PORT.",
)
@click.option("--against", metavar="NAME", default="pytorch", help="The engine that those must agree with.")
@click.option("--endpoint", metavar="HOST:PORT", help="Short for --engine grpc://HOST:PORT.")
@click.option("--endpoint-model", metavar="NAME", help="The model's name at an endpoint; the run's own by default.")
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="NAME",
    help="A Triton release that must load it; all by default.",
)
@click.option("--only", metavar="CHECK", multiple=True, help="Make this check alone (repeatable), and write nothing.")
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), help="Write the outcome as JUnit XML too.")
@click.option("--sign-key", type=click.Path(path_type=Path), help="Private key (PEM) that signs a run that passed.")
@click.option("--json", "as_json", is_flag=True, help="Print parity.json instead of a line for each check.")
def command(
    run: Path,
    data: Path | None,
    engines: tuple[str, ...],
    against: str,
    endpoint: str | None,
    endpoint_model: str | None,
    targets: tuple[str, ...],
    only: tuple[str, ...],
    junit: Path | None,
    sign_key: Path | None,
    as_json: bool,
) -> None:
    """Compare the exported model with PyTorch and write RUN/parity.json; exit 3 if any check fails.

    A grid of shapes, every vocabulary entry, hostile bytes and every held-out row must agree in probability, label and
    validity; and a row must answer the same alone, padded, shuffled and beside any other. The files, and ONNX Runtime
    on the CPU, are always checked, and decide alone whether the run may be published; --engine checks others as well.

    A run that passed every check is signed with --sign-key into RUN/model.sig. The password of an encrypted key is read
    from $PIPELINE_SIGN_KEY_PASSWORD.

    \b
    pipeline verify runs/sentiment-001
    pipeline verify runs/sentiment-001 --endpoint 127.0.0.1:8001 --engine http://127.0.0.1:8000
    pipeline verify runs/sentiment-001 --engine cuda --engine cuda-tf32
    pipeline verify runs/sentiment-001 --engine cpu-none --against evaluator --target triton-26.07
    pipeline verify runs/sentiment-001 --only grid --only padded
    pipeline verify runs/sentiment-001 --sign-key private.pem
    """
    from pipeline.run_directory import RunDirectory
    from pipeline.signing import Signer, run_files
    from pipeline.verify import verify, write_junit

    if only and (junit or as_json or sign_key):
        raise UsageError(
            "--only makes a part of the checks: it cannot be --json, --junit or --sign-key, which stand for all of them."
        )
    directory = RunDirectory.open(run)
    signer = Signer(sign_key) if sign_key else None  # a key that cannot sign is told before the checks
    report = verify(
        directory,
        data,
        engines=(*engines, *([f"grpc://{endpoint}"] if endpoint else [])),
        against=against,
        endpoint_model=endpoint_model,
        targets=targets,
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
    if signer:
        click.echo(f"signed: {signer.sign(directory.path, run_files(directory))}", err=as_json)


def line(check: "Check") -> str:
    """Say one check's outcome."""
    return f"{'pass' if check.passed else 'FAIL'}  {check.engine:<22} {check.name:<19} {check.detail}"
