"""Local paths and fsspec URIs to bytes, and bytes to rows by the suffix of their name."""

import difflib
import hashlib
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeVar

import fsspec

from pipeline.errors import DataError, PipelineError, UsageError
from pipeline.readers.delimited import read_delimited
from pipeline.readers.json_lines import read_json_lines
from pipeline.readers.npz import Arrays, read_npz
from pipeline.readers.parquet import read_parquet
from pipeline.readers.rows import Records, Row, examples
from pipeline.readers.ts import read_ts
from pipeline.signature import Interface

TEXT_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
FEATURE_SUFFIXES = (".ts", ".npz")
BLOCK_BYTES = 2**20

T = TypeVar("T")


def interface_of(source: str) -> Interface:
    """Return the interface that a file's suffix stands for.

    Raises:
        UsageError: no reader knows the suffix.
    """
    suffix = _suffix(source)
    if suffix in TEXT_SUFFIXES:
        return "text"
    if suffix in FEATURE_SUFFIXES:
        return "features"
    known = (*TEXT_SUFFIXES, *FEATURE_SUFFIXES)
    near = difflib.get_close_matches(suffix, known, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise UsageError(f"{source}: unknown suffix {suffix!r}.{hint} There are readers for {', '.join(known)}.")


def has_reader(source: str) -> bool:
    """Tell whether a reader knows a file's suffix."""
    return _suffix(source) in (*TEXT_SUFFIXES, *FEATURE_SUFFIXES)


def read(source: str, text: str = "text", label: str = "label") -> Iterator[Row]:
    """Yield the examples and bad rows of a local file or a URI; `text` and `label` name the columns of a text table.

    Raises:
        DataError: the file cannot be read, or is damaged as a whole.
        UsageError: there is no such file or column, or no reader for the suffix.
    """
    yield from examples(read_records(source, text, label))


def read_records(source: str, text: str = "text", label: str | None = None) -> Records:
    """Yield the records of a local file or a URI as they stand; without `label`, no labels are read or needed.

    Raises:
        DataError: the file cannot be read, or is damaged as a whole.
        UsageError: there is no such file or column, or no reader for the suffix.
    """
    interface_of(source)
    with open_source(source) as file:
        yield from _reader(file, _suffix(source), text, label)


def sha256_of_source(source: str) -> str:
    """Return the SHA-256 of a local file's or a URI's bytes."""
    digest = hashlib.sha256()
    with open_source(source) as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def open_source(source: str) -> Iterator[IO[bytes]]:
    """Open a local path or an fsspec URI for reading; errors of ours that are raised meanwhile are given its name.

    Raises:
        DataError: it cannot be read.
        UsageError: there is no such file, or the URI's file system is unknown or not installed.
    """
    try:
        with _open(source) as file:
            yield file
    except PipelineError as error:
        raise type(error)(f"{source}: {error}") from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(f"{source}: no such file.") from error
    except IsADirectoryError as error:
        raise UsageError(f"{source}: a folder; wanted a file.") from error
    except OSError as error:
        raise DataError(f"{source}: cannot be read: {error.strerror or _first_line(error)}.") from error


def _open(source: str) -> IO[bytes]:
    if "://" not in source:
        return Path(source).open("rb")
    try:
        return io.BufferedReader(_Remote(fsspec.open(source, "rb").open()), BLOCK_BYTES)
    except (ImportError, ValueError) as error:
        raise UsageError(f"cannot be opened: {_first_line(error)}") from error
    except OSError:
        raise
    except Exception as error:  # each file system's client has errors of its own
        raise _failed(error) from error


class _Remote(io.RawIOBase):
    """A file of any fsspec file system: what its client raises while it is read is an OSError, or becomes ours."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._file.seekable()

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        content = self._call(self._file.read, len(view))
        view[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._call(self._file.seek, offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()

    def _call(self, method: Callable[..., T], *arguments: int) -> T:
        try:
            return method(*arguments)
        except OSError:
            raise
        except Exception as error:
            raise _failed(error) from error


def _failed(error: Exception) -> DataError:
    return DataError(f"cannot be read: {type(error).__name__}: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["no reason given"])[0]


def _reader(file: IO[bytes], suffix: str, text: str, label: str | None) -> Records:
    match suffix:
        case ".csv":
            return read_delimited(file, ",", text, label)
        case ".tsv":
            return read_delimited(file, "\t", text, label)
        case ".jsonl" | ".ndjson":
            return read_json_lines(file, text, label)
        case ".parquet":
            return read_parquet(file, text, label)
        case ".ts":
            return read_ts(file, is_labelled=label is not None)
        case _:
            return read_npz(file, Arrays() if label is not None else Arrays(labels=None))


def _suffix(source: str) -> str:
    return PurePosixPath(source).suffix.lower()
