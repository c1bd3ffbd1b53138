"""The model repository as a set of immutable version directories, each put in place by one rename.

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
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import PipelineError, RepositoryError, RunError
from pipeline.files import sync
from pipeline.repository.scan import versions_of

LOCK_FILE = ".publish.lock"
_STAGING = ".staging-"


class Repository:
    """A model repository on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def versions(self, name: str) -> list[int]:
        """Return a model's version numbers, lowest first."""
        return list(versions_of(self.path / name))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the repository against other publishers, and sweep up what a killed one left.

        Raises:
            RepositoryError: another publisher holds it, or it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / LOCK_FILE).open("w")
        except OSError as error:
            raise RepositoryError(f"{self.path}: cannot be written: {error.strerror}.") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RepositoryError(f"{self.path}: another `pipeline publish` holds it. Try again later.") from error
            except OSError as error:
                raise RepositoryError(
                    f"{self.path}: cannot be locked: {error.strerror}. Publish to a file system that has locks."
                ) from error
            self._remove_left_overs()
            yield

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """Give an empty folder on the repository's file system; whatever is left in it afterwards is removed.

        Raises:
            RepositoryError: there is no room or no right to write; the repository is untouched.
        """
        try:
            with tempfile.TemporaryDirectory(prefix=self._staging_prefix, dir=self._staging_parent) as folder:
                yield Path(folder)
        except (OSError, PipelineError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            if not isinstance(cause, OSError) or isinstance(error, RunError):  # a file of the run, not of ours
                raise
            raise RepositoryError(f"{self.path}: {cause.strerror or cause}. The repository is untouched.") from error

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

    def remove(self, path: Path) -> None:
        """Rename a folder out of the repository, if it is there, and delete it: a reader sees all of it or nothing."""
        if path.exists():
            with self.staging() as staging:
                path.rename(staging / path.name)
                sync(path.parent)

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
