"""Worker processes: spawned, since a copy of this process would share the locks of its threads."""

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnProcess
from typing import Any


def spawned(work: Callable[..., object], *arguments: Any) -> SpawnProcess:
    """Start a process that calls a function, ends with this one, and does not hear Ctrl-C.

    A terminal sends it to all processes at once; it is the parent's to answer, also while a worker still imports.

    Raises:
        OSError: no process can be started.
    """
    process = multiprocessing.get_context("spawn").Process(target=work, args=arguments, daemon=True)
    resource_tracker.ensure_running()  # first: as it starts, it unblocks SIGINT
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which the new process inherits
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return process
