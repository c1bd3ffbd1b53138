"""Paths and folders to the files that are scored, and whether these are still what they were."""

import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pipeline.errors import DataError, UsageError
from pipeline.readers.source import TEXT_SUFFIXES, interface_of


@dataclass(frozen=True)
class Input:
    """A file to score.

    Attributes:
        path: where it lies.
        name: where its scored copy will lie in the output folder.
        size: in bytes.
        modified_ns: when it was last written, in nanoseconds.
    """

    path: Path
    name: str
    size: int
    modified_ns: int

    @contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        """Open the file; what is said of its content meanwhile is given its name.

        Raises:
            DataError: it cannot be read, or is not, now and in the end, the file that was planned.
        """
        try:
            file = self.path.open("rb")
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read: {error.strerror}.") from error
        with file:
            try:
                self._require_same(file)
                yield file
                self._require_same(file)
            except (DataError, UsageError) as error:
                raise type(error)(f"{self.path}: {error}") from error

    def _require_same(self, file: IO[bytes]) -> None:
        status = os.fstat(file.fileno())
        if (status.st_size, status.st_mtime_ns) != (self.size, self.modified_ns):
            raise DataError("was changed since its scoring began. Begin again in another folder.")


def find_inputs(paths: Sequence[Path], output: Path) -> list[Input]:
    """Return the files of paths and folders, a folder's by name, its subfolders' too.

    What begins with a dot or an underscore is left out, as everywhere in the Hadoop world, and so is the output.

    Raises:
        UsageError: a path is not there, is of no known format, or two files would be written to one place.
        DataError: a file cannot be read.
    """
    found = [_input(file, name) for path in paths for file, name in _files(path, output.resolve())]
    name, count = Counter(file.name for file in found).most_common(1)[0]
    if count > 1:
        raise UsageError(f"{name}: {count} of the inputs have that name. Score them into different folders.")
    return found


def _files(path: Path, output: Path) -> Iterator[tuple[Path, str]]:
    if not path.is_dir():
        if interface_of(str(path)) != "text":
            raise UsageError(f"{path}: holds features; score takes texts. Use `pipeline predict --input FILE`.")
        yield path, path.name
        return
    if path.resolve().is_relative_to(output):
        raise UsageError(f"{path}: lies in the folder of the scored files, {output}. Choose another --to.")
    found = (file for file in path.rglob("*") if file.suffix.lower() in TEXT_SUFFIXES)
    # Spark calls folders x.parquet. Those were descended into; a link to one was not, and is refused below.
    names = sorted(file.relative_to(path) for file in found if file.is_symlink() or not file.is_dir())
    names = [name for name in names if not any(part.startswith((".", "_")) for part in name.parts)]
    files = [path / name for name in names if not (path / name).resolve().is_relative_to(output)]
    if not files:
        raise UsageError(f"{path}: no file there ends in one of {', '.join(TEXT_SUFFIXES)}.")
    for file in files:
        yield file, str(file.relative_to(path))


def _input(path: Path, name: str) -> Input:
    try:
        status = path.stat()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}.") from error
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(f"{path}: not a regular file; only what can be read again can be gone on with.")
    # Not resolved: what a link points to, in a store that names files after their content, has no suffix.
    return Input(path.absolute(), name, status.st_size, status.st_mtime_ns)
