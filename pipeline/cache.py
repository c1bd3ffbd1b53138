"""What is made once and read often: folders named after the content that they were made from.

::

    $PIPELINE_CACHE/           ~/.cache/pipeline by default; may be removed at any time
        SHA256/                a downloaded package
        encoded-SHA256/        a split's token ids or frames, laid end to end
        rows-SHA256/           a large split's rows, unpacked
        .NAME.lock             held by who makes, fetches or removes NAME
        .NAME.tmp/             a part of it
"""

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.files import sync

KEPT_SECONDS = 30 * 86_400


def cache_folder() -> Path:
    """Return ``$PIPELINE_CACHE``, or ``~/.cache/pipeline``.

    Raises:
        PipelineError: neither is known: the user has no home, as in many a container.
    """
    try:
        return Path(os.environ.get("PIPELINE_CACHE") or Path.home() / ".cache" / "pipeline").absolute()
    except RuntimeError as error:
        raise PipelineError("no home for the cache. Set PIPELINE_CACHE to a folder that can be written.") from error


def made_once(name: str, make: Callable[[Path], None]) -> Path:
    """Return a cached folder, made first if it is not there; another process that wants the same one waits.

    Args:
        name: says what its content follows from; the same name is never made twice.
        make: fills a new folder. It takes its place whole, or not at all.

    Raises:
        PipelineError: the cache cannot be written, or the disk is full.
    """
    folder = cache_folder() / name
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.name, folder.parent):
            if not folder.is_dir():
                _remove_unused(folder.parent)
                _make(folder, make)
            os.utime(folder)
    except OSError as error:
        if folder.is_dir():  # in a cache that may only be read
            return folder
        raise PipelineError(
            f"{folder}: cannot be written: {error.strerror or error}. "
            "Make room, or set PIPELINE_CACHE to another folder."
        ) from error
    return folder


def _make(folder: Path, make: Callable[[Path], None]) -> None:
    unfinished = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)  # of a killed process
    unfinished.mkdir()
    try:
        make(unfinished)
        for path in (*unfinished.iterdir(), unfinished):
            sync(path)
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _remove_unused(cache: Path) -> None:
    """Remove the made folders that nobody asked for in a month, and what killed processes left.

    A process that reads one keeps what it has open.
    """
    for path in cache.glob(".*.tmp"):
        with contextlib.suppress(OSError), locked(path.name[1:-4], cache, fcntl.LOCK_NB):
            shutil.rmtree(path)
    for path in (*cache.glob("encoded-*"), *cache.glob("rows-*")):
        with contextlib.suppress(OSError), locked(path.name, cache, fcntl.LOCK_NB):
            if time.time() - path.stat().st_mtime > KEPT_SECONDS:
                shutil.rmtree(path.rename(path.with_name(f".{path.name}.tmp")))


@contextlib.contextmanager
def locked(name: str, cache: Path, operation: int = 0) -> Iterator[None]:
    """Hold a name in the cache against other processes; the file stays, or two could hold one name."""
    with (cache / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | operation)
        yield
