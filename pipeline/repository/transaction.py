"""The model repository as a set of immutable version directories, each put in place, and taken out, by one rename.

A new version is built beside the repository, on the same file system, made durable, and renamed into it: Triton,
a second publisher and a crash see the old state or the new one. Nothing half-written ever lies inside the repository,
because Triton takes every folder in it for a model.
"""

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from pipeline.errors import PipelineError, RepositoryError, RunError
from pipeline.files import sync
from pipeline.repository.scan import versions_of

LOCK_FILE = ".publish.lock"
WAIT_SECONDS = 30.0
_LOOK_SECONDS = 0.05
_STAGING = ".staging-"


class Repository:
    """A model repository on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def versions(self, name: str) -> list[int]:
        """Return a model's version numbers, lowest first."""
        return list(versions_of(self.path / name))

    @contextlib.contextmanager
    def locked(self, wait_seconds: float = WAIT_SECONDS) -> Iterator[None]:
        """Hold the repository against others who would change it, and sweep up what a killed one left.

        Args:
            wait_seconds: how long to wait for somebody else to be done.

        Raises:
            RepositoryError: somebody else still holds it, or it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / LOCK_FILE).open("w")
        except OSError as error:
            raise RepositoryError(f"{self.path}: cannot be written: {error.strerror}.") from error
        with lock:
            self._lock(lock, time.monotonic() + wait_seconds)
            self._remove_left_overs()
            yield

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """Give an empty folder on the repository's file system; whatever is left in it afterwards is removed.

        Raises:
            RepositoryError: there is no room or no right to write; what is served has not changed.
        """
        try:
            with tempfile.TemporaryDirectory(prefix=self._staging_prefix, dir=self._staging_parent) as folder:
                yield Path(folder)
        except (OSError, PipelineError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            if not isinstance(cause, OSError) or isinstance(error, RunError):  # a file of the run, not of ours
                raise
            raise RepositoryError(f"{self.path}: {cause.strerror or cause}. What is served has not changed.") from error

    def put(self, staged: Path, target: Path) -> None:
        """Make a staged folder durable and rename it into the repository.

        Raises:
            RepositoryError: the target exists.
        """
        for path in [staged, *staged.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
            sync(path)
        if target.exists():
            raise RepositoryError(f"{target}: exists. A published version is never changed; publish a new one.")
        staged.rename(target)
        sync(target.parent)

    def replace_file(self, staged: Path, target: Path) -> None:
        """Make a staged file durable and rename it over the repository's own; a reader sees the old one or the new."""
        staged.chmod(0o644)
        sync(staged)
        staged.replace(target)
        sync(target.parent)

    def write_text(self, path: Path, text: str) -> None:
        """Write a file of the repository as `replace_file` does.

        Raises:
            RepositoryError: as `staging`.
        """
        with self.staging() as staging:
            (staging / path.name).write_text(text)
            self.replace_file(staging / path.name, path)

    def remove(self, path: Path) -> None:
        """Rename a folder out of the repository, if it is there, and delete it: a reader sees all of it or nothing."""
        if path.exists():
            with self.staging() as staging:
                path.rename(staging / path.name)
                sync(path.parent)

    def _lock(self, file: IO[str], deadline: float) -> None:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise RepositoryError(
                        f"{self.path}: another command is changing it. Wait longer with --wait-seconds."
                    ) from error
            except OSError as error:
                raise RepositoryError(
                    f"{self.path}: cannot be locked: {error.strerror}. Use a file system that has locks."
                ) from error
            time.sleep(_LOOK_SECONDS)

    def _remove_left_overs(self) -> None:
        """Remove the staging folders of this repository, and of no other one beside it whose name begins alike."""
        ours = re.compile(re.escape(self._staging_prefix) + "[a-z0-9_]{8}")  # as tempfile ends a name
        for path in self._staging_parent.iterdir():
            if ours.fullmatch(path.name):
                shutil.rmtree(path, ignore_errors=True)

    @property
    def _staging_prefix(self) -> str:
        return f"{_STAGING}{self.path.resolve().name}-"

    @property
    def _staging_parent(self) -> Path:
        """The folder that holds the repository, or the repository itself where that is another file system."""
        path = self.path.resolve()
        is_beside = os.access(path.parent, os.W_OK) and path.parent.stat().st_dev == path.stat().st_dev
        return path.parent if is_beside else path
