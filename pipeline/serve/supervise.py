"""Keep a Triton running and answering: a generator that tells what happened and prints nothing."""

import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event as Flag

from pipeline.errors import ServerError
from pipeline.serve.layout import SHARED_MEMORY, Options, command_line, environment, lay_out
from pipeline.serve.life import Event, Life, Restarting
from pipeline.serve.network import check_address, choose_ports, is_in_container
from pipeline.serve.process import ServerLost, started
from pipeline.serve.repository import require_models, scan
from pipeline.wheel import Triton, find_triton

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
        RepositoryError: there is nothing to serve.
        UsageError: the address is not allowed, or a model is not there.
    """
    check_address(options.address, is_in_container())
    triton = find_triton()
    require_models(options.repository, options.models)
    options = replace(choose_ports(options), repository=options.repository.resolve())
    remove_left_overs()
    name = f"pipeline-{os.getpid()}-{secrets.token_hex(4)}-"
    with tempfile.TemporaryDirectory(prefix=name) as folder:
        lay_out(Path(folder), triton)
        yield from _lives(options, stop, log, triton, Path(folder), name)


def _lives(
    options: Options, stop: Flag, log: Callable[[str], None], triton: Triton, folder: Path, regions: str
) -> Iterator[Event]:
    """Start the server again and again, after pauses of 1, 2, 4 … seconds."""
    is_first, failures = True, 0
    while not stop.is_set():
        begun = time.monotonic()
        models = tuple(scan(options.repository, options.models))
        command = command_line(folder, triton, options, models, regions)
        try:
            with started(command, environment(folder, triton), folder, regions, log) as process:
                for event in Life(options, process, stop, is_first).run():
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
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
