"""``pipeline serve``: parse, start, and tell what happens."""

import json
import re
import signal
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

import click

from pipeline.commands.signals import stop_on_signals
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.serve import Event, Ready

PORT = click.IntRange(0, 65_535)
TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{16,512}=*")  # what a header may carry (RFC 6750), and nobody guesses


@click.command("serve")
@click.argument("repository", type=click.Path(path_type=Path), default=Path("model_repository"))
@click.option("--address", default="127.0.0.1", help="Loopback; any other only inside a container.")
@click.option("--http-port", type=PORT, default=8000, help="0 picks a free one.")
@click.option("--grpc-port", type=PORT, default=8001, help="0 picks a free one.")
@click.option("--metrics-port", type=PORT, default=8002, help="0 picks a free one.")
@click.option("--model", "models", multiple=True, metavar="NAME", help="Serve this model only; may be repeated.")
@click.option(
    "--timeout-seconds", type=click.FloatRange(min=1), default=60.0, help="For loading and the first answers."
)
@click.option(
    "--ready-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Written while the server answers, and again whenever a new version is live.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print a line of JSON on stdout whenever the server is ready or a new version is live.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Ask callers for the token in this file for anything but health and metrics; clients read $PIPELINE_TOKEN.",
)
@click.option(
    "--max-memory-mb",
    type=click.IntRange(min=1),
    help="Start the server anew, once it has answered what it was asked, when Triton and its backends hold more.",
)
@click.option("--log-verbose", "verbose", is_flag=True, help="Show all that Triton logs.")
@click.option("--quiet", is_flag=True, help="Show errors only.")
def command(
    repository: Path,
    address: str,
    http_port: int,
    grpc_port: int,
    metrics_port: int,
    models: tuple[str, ...],
    timeout_seconds: float,
    ready_file: Path | None,
    as_json: bool,
    token_file: Path | None,
    max_memory_mb: int | None,
    verbose: bool,
    quiet: bool,
) -> None:
    """Serve a model repository on this machine with a real Triton.

    The Triton is 2.51 (release 24.10) out of the nvidia-pytriton wheel: loopback, single user, development. A version
    published meanwhile goes into service without a restart. Ctrl-C, SIGTERM or closing the
    terminal ends it.

    Triton takes the token as an argument: other users of this machine can read it in the list of processes.

    \b
    pipeline serve
    pipeline serve --grpc-port 0 --ready-file ready.json &
    pipeline serve --token-file token &   # openssl rand -hex 32 > token
    PIPELINE_TOKEN=$(cat token) pipeline predict sentiment "What a lovely film!"
    """
    from pipeline.serve import Loaded, Options, Ready, Restarting, supervise

    if ready_file:
        _check_ready_file(ready_file)
    options = Options(
        repository=repository,
        address=address,
        http_port=http_port,
        grpc_port=grpc_port,
        metrics_port=metrics_port,
        models=models,
        timeout_seconds=timeout_seconds,
        verbose=verbose,
        token=_token(token_file) if token_file else "",
        max_memory_bytes=(max_memory_mb or 0) * 10**6,
    )
    log = (lambda line: click.echo(line, err=True)) if verbose else (lambda _: None)
    ready: Ready | None = None
    try:
        with stop_on_signals(signal.SIGHUP) as stop, closing(supervise(options, stop, log)) as events:
            for event in events:
                if not quiet:
                    click.echo(_text(event), err=True)
                if isinstance(event, Ready):
                    ready = event
                    _announce(ready, as_json, ready_file)
                elif isinstance(event, Loaded) and ready:
                    ready = ready.after(event)
                    _announce(ready, as_json, ready_file)
                elif isinstance(event, Restarting):
                    _withdraw(ready_file)
    finally:
        _withdraw(ready_file)


def _check_ready_file(path: Path) -> None:
    """Refuse a file that could not be written later; take away one that a killed server left."""
    try:
        path.unlink(missing_ok=True)
        with TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise UsageError(
            f"--ready-file {path}: cannot be written: {error.strerror}. Name a file in a folder that can be written to."
        ) from error


def _token(path: Path) -> str:
    try:
        token = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not ASCII"
        raise UsageError(f"--token-file {path}: cannot be read: {reason}.") from error
    if not TOKEN.fullmatch(token):
        raise UsageError(
            f"--token-file {path}: wanted one word of 16 to 512 letters, digits and ._~+/-; "
            f"`openssl rand -hex 32 > {path}` makes one."
        )
    return token


def _announce(ready: "Ready", as_json: bool, ready_file: Path | None) -> None:
    from pipeline.files import write_json

    record = {
        "grpc": ready.grpc,
        "http": ready.http,
        "metrics": ready.metrics,
        "models": ready.models,
        "pid": ready.pid,
    }
    if as_json:
        click.echo(json.dumps(record))
    if ready_file:
        write_json(ready_file, record)


def _withdraw(ready_file: Path | None) -> None:
    if ready_file:
        with suppress(OSError):  # its folder went away meanwhile
            ready_file.unlink(missing_ok=True)


def _text(event: "Event") -> str:
    from pipeline.serve import Loaded, LoadFailed, Restarting
    from pipeline.triton import TRITON_RELEASE, TRITON_VERSION

    if isinstance(event, Restarting):
        return f"{event.reason}. Starting again in {event.pause_seconds:g} s."
    if isinstance(event, Loaded):
        return f"{event.model}: now serving {_versions(event.versions)}."
    if isinstance(event, LoadFailed):
        return f"{event.model}: could not be loaded; {_versions(event.versions)} stays in service: {event.reason}"
    width = max(map(len, event.models), default=0)
    return "\n".join(
        [
            f"Triton {TRITON_VERSION} ({TRITON_RELEASE}) answers:",
            f"  gRPC     {event.grpc}",
            f"  HTTP     http://{event.http}",
            f"  metrics  http://{event.metrics}/metrics",
            *(f"  model    {name:{width}}  {_versions(versions)}" for name, versions in event.models.items()),
            "This is the Triton out of a Python wheel: loopback, single user, development. For production see deploy/.",
            "Ctrl-C ends it.",
        ]
    )


def _versions(versions: tuple[int, ...]) -> str:
    if not versions:
        return "no version"
    return f"version{'s' * (len(versions) > 1)} {', '.join(map(str, versions))}"
