"""Keep a Triton running and answering: a generator that tells what happened and prints nothing."""

import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Event as Flag

from pipeline.errors import RepositoryError, ServerError, UsageError
from pipeline.repository import scan
from pipeline.serve.layout import SHARED_MEMORY, Options, command_line, environment, lay_out
from pipeline.serve.monitor import Event, Monitor, Restarting
from pipeline.serve.network import check_address, choose_ports, is_in_container
from pipeline.serve.process import ServerLost, started
from pipeline.triton import Triton, find_triton

QUICK_FAILURES = 5
STEADY_SECONDS = 60.0


def supervise(
    options: Options, stop: Flag, log: Callable[[str], None] = lambda _: None
) -> Generator[Event, None, None]:
    """Serve a repository until `stop` is set, starting the server again whenever it is lost.

    Run it to its end in one thread: the server is tied to the life of the thread that started it.

    Args:
        options: what to serve, and where.
        stop: set it to end; the server finishes what it is answering.
        log: takes each line that Triton logs, in another thread.

    Raises:
        ServerError: the server cannot be started, or was lost too often.
        RepositoryError: there is nothing to serve, or it cannot be read.
        UsageError: the address is not allowed, or the repository or a model is not there.
    """
    check_address(options.address, is_in_container())
    triton = find_triton()
    _require_models(options)
    options = replace(choose_ports(options), repository=options.repository.resolve())
    name = f"pipeline-{os.getpid()}-{secrets.token_hex(4)}-"
    with _laid_out(name, triton) as folder:
        yield from _keep_running(options, stop, log, triton, folder, name)


def _require_models(options: Options) -> None:
    repository = options.repository
    try:
        found = scan(repository)
    except RepositoryError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            raise UsageError(f"{repository}: no such model repository. `pipeline publish` makes one.") from error
        raise
    if not found:
        raise RepositoryError(f"{repository}: no model to serve. Put one there with `pipeline publish`.")
    missing = [name for name in options.models if name not in found]
    if missing:
        raise UsageError(f"{repository}: no model named {', '.join(missing)}; there are {', '.join(found)}.")


@contextmanager
def _laid_out(name: str, triton: Triton) -> Iterator[Path]:
    """Give the private folder, filled, for the length of a ``with`` block."""
    with ExitStack() as stack:
        try:
            remove_left_overs()
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=name)))
            lay_out(folder, triton)
        except OSError as error:
            raise ServerError(
                f"no temporary folder to serve from: {error.strerror}. Make room, or set TMPDIR to another folder."
            ) from error
        yield folder


def _keep_running(
    options: Options, stop: Flag, log: Callable[[str], None], triton: Triton, folder: Path, regions: str
) -> Iterator[Event]:
    """Start the server again and again, after pauses of 1, 2, 4 … seconds."""
    is_first, failures = True, 0
    while not stop.is_set():
        begun = time.monotonic()
        on_disk = scan(options.repository, options.models)
        command = command_line(folder, triton, options, tuple(on_disk), regions)
        try:
            with started(command, environment(folder, triton), folder, regions, log) as process:
                for event in Monitor(options, process, stop, is_first, on_disk).run():
                    yield event
                    is_first = False
            return
        except ServerLost as lost:
            failures = 1 if time.monotonic() - begun > STEADY_SECONDS else failures + 1
            if is_first:
                raise ServerError(f"{lost}.") from lost
            if failures > QUICK_FAILURES:
                raise ServerError(f"{lost}. Gave up after {failures} failures in a row.") from lost
            pause_seconds = 2.0 ** (failures - 1)
            yield Restarting(str(lost), pause_seconds)
            stop.wait(pause_seconds)


def remove_left_overs() -> None:
    """Remove shared memory and folders of servers whose supervisor was killed before it could."""
    for path in (*SHARED_MEMORY.glob("pipeline-*-*"), *Path(tempfile.gettempdir()).glob("pipeline-*-*")):
        match = re.fullmatch(r"pipeline-(\d+)-[0-9a-f]{8}-.*", path.name)
        if match and not Path("/proc", match[1]).exists():
            with suppress(OSError):  # another user's, in a folder where only owners remove
                shutil.rmtree(path) if path.is_dir() else path.unlink()
