"""`pipeline verify`: parse options, print each check."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from pipeline.commands.options import access_options
from pipeline.errors import CheckFailed, UsageError

if TYPE_CHECKING:
    from pipeline.client import Access
    from pipeline.verify import Check

FOR_A_MODEL = ("reference", "signature", "rows", "sizes", "absolute", "relative", "output")
FOR_BOTH = ("run", "model", "engines", "as_json")
WHOLE = ("junit", "as_json", "sign_key")  # what stands for all checks, so not for --only


def _sizes(context: click.Context, option: click.Parameter, given: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """Parse ``seq=1,8,65``."""
    sizes = {}
    for text in given:
        name, _, numbers = text.partition("=")
        if not name or not all(number.isdecimal() and int(number) for number in numbers.split(",")):
            raise click.BadParameter(f"{text}: wanted NAME=SIZE,SIZE…", context, option)
        sizes[name] = tuple(map(int, numbers.split(",")))
    return sizes


@click.command("verify", short_help="Prove that the exported model gives PyTorch's answers.")
@click.argument("run", type=click.Path(path_type=Path), required=False)
@click.option("--data", type=click.Path(path_type=Path), help="The run's data set, if it was moved.")
@click.option(
    "--engine",
    "engines",
    multiple=True,
    metavar="NAME",
    help="Check another engine as well: pytorch, pytorch-float64, cpu, cpu-none, cpu-basic, cpu-extended, cuda, "
    "cuda-tf32, evaluator, grpc://HOST:PORT or http://HOST:PORT; of these, cpu… and cuda… for --model.",
)
@click.option(
    "--against",
    metavar="NAME",
    default="pytorch",
    help="The engine that those must agree with; a variant, such as int8, for an endpoint that serves it.",
)
@click.option("--endpoint", metavar="HOST:PORT", help="Short for --engine grpc://HOST:PORT.")
@click.option("--endpoint-model", metavar="NAME", help="The model's name at an endpoint; the run's own by default.")
@click.option(
    "--target", "targets", multiple=True, metavar="NAME", help="A Triton release that must load it; all by default."
)
@click.option("--only", metavar="CHECK", multiple=True, help="Make this check alone (repeatable), and write nothing.")
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), help="Write the outcome as JUnit XML too.")
@click.option("--sign-key", type=click.Path(path_type=Path), help="Private key (PEM) that signs a run that passed.")
@click.option("--model", type=click.Path(path_type=Path), help="Verify this ONNX file instead of a run.")
@click.option("--reference", metavar="FILE.onnx|MODULE:NAME", help="What --model was made from; its code is run.")
@click.option(
    "--signature",
    type=click.Path(path_type=Path),
    help="What --model must take and give, and the least and most of whole numbers: JSON like signature.json.",
)
@click.option("--inputs", "rows", type=click.Path(path_type=Path), help="An .npz of rows, an array for each input.")
@click.option("--axis", "sizes", multiple=True, callback=_sizes, metavar="NAME=SIZE,…",
              help="What a dynamic axis is tried at; 1,2,7,64 by default. May be repeated.")  # fmt: skip
@click.option("--absolute", type=click.FloatRange(min=0), default=1e-5, help="Allowed |Δ|, to which is added:")
@click.option("--relative", type=click.FloatRange(min=0), default=0.0, help="allowed |Δ| / |reference|.")
@click.option("--output", type=click.Path(path_type=Path), help="The record; MODEL.parity.json by default.")
@click.option("--json", "as_json", is_flag=True, help="Print parity.json instead of a line for each check.")
@access_options
@click.pass_context
def command(
    context: click.Context,
    run: Path | None,
    data: Path | None,
    engines: tuple[str, ...],
    against: str,
    endpoint: str | None,
    endpoint_model: str | None,
    targets: tuple[str, ...],
    only: tuple[str, ...],
    junit: Path | None,
    sign_key: Path | None,
    model: Path | None,
    reference: str | None,
    signature: Path | None,
    rows: Path | None,
    sizes: dict[str, tuple[int, ...]],
    absolute: float,
    relative: float,
    output: Path | None,
    as_json: bool,
    access: "Access",
) -> None:
    """Compare the exported model with PyTorch and write RUN/parity.json; exit 3 if any check fails.

    A grid of shapes, every vocabulary entry, hostile bytes and every held-out row must agree in probability, label and
    validity; and a row must answer the same alone, padded, shuffled and beside any other. The files, and ONNX Runtime
    on the CPU, are always checked, and decide alone whether the run may be published; --engine checks others as well.

    A run that passed every check is signed with --sign-key into RUN/model.sig. The password of an encrypted key is read
    from $PIPELINE_SIGN_KEY_PASSWORD.

    With --model, an ONNX file that was trained elsewhere is compared with --reference: another ONNX file, or a PyTorch
    module, a scikit-learn estimator or a function that is imported from the current directory, at 1, 2, 7 and 64 of
    every dynamic axis.

    \b
    pipeline verify runs/sentiment-001
    pipeline verify runs/sentiment-001 --endpoint 127.0.0.1:8001 --engine http://127.0.0.1:8000
    pipeline verify runs/sentiment-001 --engine cuda --engine cuda-tf32
    pipeline verify runs/sentiment-001 --engine cpu-none --against evaluator --target triton-26.07
    pipeline verify runs/sentiment-001 --endpoint 127.0.0.1:8001 --against int8
    pipeline verify runs/sentiment-001 --only grid --only padded
    pipeline verify runs/sentiment-001 --sign-key private.pem
    pipeline verify --model model.onnx --reference train:model
    pipeline verify --model new.onnx --reference old.onnx --inputs rows.npz
    """
    from pipeline.run_directory import RunDirectory
    from pipeline.signing import Signer, run_files
    from pipeline.verify import verify, verify_model, write_junit
    from pipeline.verify.compare import Tolerance

    _refuse_mixture(context)

    def show(check: "Check") -> None:
        click.echo(line(check), err=as_json)

    if model is not None and reference is not None:
        record = output or model.with_suffix(".parity.json")
        others = verify_model(
            model,
            reference,
            signature=signature,
            rows=rows,
            sizes=sizes,
            tolerance=Tolerance(absolute, relative),
            engines=engines,
            output=record,
            progress=show,
        )
        _conclude(model, others.failures, record, as_json=as_json)
    elif run is not None:
        directory = RunDirectory.open(run)
        signer = Signer(sign_key) if sign_key else None  # a key that cannot sign is told before the checks
        report = verify(
            directory,
            data,
            engines=(*engines, *([f"grpc://{endpoint}"] if endpoint else [])),
            against=against,
            endpoint_model=endpoint_model,
            access=access,
            targets=targets,
            only=only,
            progress=show,
        )
        if junit:
            write_junit(report, junit)
        if only:
            click.echo("A part of the checks is no verification: parity.json is as it was.", err=True)
        _conclude(run, report.failures, None if only else directory / "parity.json", as_json=as_json)
        if signer:
            click.echo(f"signed: {signer.sign(directory.path, run_files(directory))}", err=as_json)


def line(check: "Check") -> str:
    """Say one check's outcome."""
    return f"{'pass' if check.passed else 'FAIL'}  {check.engine:<22} {check.name:<19} {check.detail}"


def _conclude(what: Path, failures: list[str], record: Path | None, *, as_json: bool) -> None:
    """Print the record if it is asked for, and fail if a check did.

    Raises:
        CheckFailed: one did.
    """
    if as_json and record:
        click.echo(record.read_text(), nl=False)
    if failures:
        see = f" See {record}." if record else ""
        raise CheckFailed(f"{what}: not verified: {', '.join(failures)}.{see}")


def _refuse_mixture(context: click.Context) -> None:
    """Refuse options of the other kind of verification.

    Raises:
        UsageError: not exactly one of RUN and --model, a --model without --reference, an option of the other, or
            --only beside what stands for all checks.
    """
    given = [option for option in context.command.params
             if context.get_parameter_source(str(option.name)) is ParameterSource.COMMANDLINE]  # fmt: skip
    names = {option.name for option in given}
    if ("run" in names) == ("model" in names):
        raise UsageError("verify: give a RUN, or --model FILE with --reference: exactly one of the two.")
    if "model" in names and "reference" not in names:
        raise UsageError("verify: --model needs --reference FILE.onnx or package.module:attribute.")
    for option in given:
        is_of_a_model = option.name in FOR_A_MODEL
        if option.name not in FOR_BOTH and is_of_a_model != ("model" in names):
            raise UsageError(f"verify: {option.opts[0]} goes with {'--model' if is_of_a_model else 'a RUN'} alone.")
        if "only" in names and option.name in WHOLE:
            raise UsageError(f"verify: --only makes a part of the checks; {option.opts[0]} stands for all of them.")
