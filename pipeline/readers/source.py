"""Local paths and fsspec URIs to bytes, and bytes to rows by the suffix of their name."""

import difflib
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

import fsspec

from pipeline.errors import DataError, PipelineError, UsageError
from pipeline.readers.delimited import read_delimited
from pipeline.readers.json_lines import read_json_lines
from pipeline.readers.npz import read_npz
from pipeline.readers.parquet import read_parquet
from pipeline.readers.rows import Row
from pipeline.readers.ts import read_ts
from pipeline.signature import Interface

TEXT_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
FEATURE_SUFFIXES = (".ts", ".npz")


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


def read(source: str, text: str = "text", label: str = "label") -> Iterator[Row]:
    """Yield the rows of a local file or a URI; `text` and `label` name the columns of a text table.

    Raises:
        DataError: the file cannot be read, or is damaged as a whole.
        UsageError: there is no such file or column, or no reader for the suffix.
    """
    interface_of(source)
    with open_source(source) as file:
        try:
            yield from _reader(file, _suffix(source), text, label)
        except PipelineError as error:
            raise type(error)(f"{source}: {error}") from error


def sha256_of_source(source: str) -> str:
    """Return the SHA-256 of a local file's or a URI's bytes."""
    digest = hashlib.sha256()
    with open_source(source) as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def open_source(source: str) -> Iterator[IO[bytes]]:
    """Open a local path or an fsspec URI for reading.

    Raises:
        DataError: it cannot be read.
        UsageError: there is no such file, or the URI's file system is unknown or not installed.
    """
    try:
        with _open(source) as file:
            yield file
    except FileNotFoundError as error:
        raise UsageError(f"{source}: no such file.") from error
    except IsADirectoryError as error:
        raise UsageError(f"{source}: a folder; wanted a file.") from error
    except OSError as error:
        raise DataError(f"{source}: cannot be read: {error.strerror or error}.") from error


def _open(source: str) -> IO[bytes]:
    if "://" not in source:
        return Path(source).open("rb")
    try:
        file: IO[bytes] = fsspec.open(source, "rb").open()
        return file
    except (ImportError, ValueError) as error:
        raise UsageError(f"{source}: cannot be opened: {error}") from error


def _reader(file: IO[bytes], suffix: str, text: str, label: str) -> Iterator[Row]:
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
            return read_ts(file)
        case _:
            return read_npz(file)


def _suffix(source: str) -> str:
    return PurePosixPath(source).suffix.lower()
