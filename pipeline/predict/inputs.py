"""Where the rows to classify come from: lines of plain text, a column of a table, or feature sequences.

Labels are not wanted here, and a text that is not UTF-8 is no error: it goes to the model as the bytes it is.
"""

import codecs
import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.client import Row
from pipeline.client.exchange import MESSAGE_BYTES
from pipeline.errors import DataError, PipelineError, UsageError
from pipeline.readers.rows import BadRow
from pipeline.readers.source import FEATURE_SUFFIXES, open_source, read


@dataclass(frozen=True, slots=True)
class Item:
    """One row to classify, and how to show it: its text, or its number and length."""

    row: Row
    shown: str


def items_of_texts(texts: Iterable[bytes]) -> Iterator[Item]:
    """Yield texts as items."""
    for text in texts:
        yield Item(text, text.decode(errors="replace"))


def items_of_lines(file: Iterable[bytes]) -> Iterator[Item]:
    """Yield the lines of a plain text file, each a text; an empty line is an empty text."""
    lines = (line.rstrip(b"\r\n") for line in file)
    return items_of_texts(
        line.removeprefix(codecs.BOM_UTF8) if not number else line for number, line in enumerate(lines)
    )


def items_of_file(source: str, column: str = "text") -> Iterator[Item]:
    """Yield the rows of a local file or a URI, read by its suffix; one without a known suffix is plain text.

    Raises:
        UsageError: there is no such file or column.
        DataError: the file or one of its rows cannot be read; the message names the file and the line or row.
    """
    suffix = PurePosixPath(source).suffix.lower()
    if suffix in FEATURE_SUFFIXES:
        yield from _sequences(source)
        return
    with open_source(source) as file:
        try:
            yield from _texts(file, suffix, column)
        except (PipelineError, pa.ArrowException, csv.Error) as error:
            kind = type(error) if isinstance(error, PipelineError) else DataError
            raise kind(f"{source}: {str(error).splitlines()[0]}") from error


def _texts(file: IO[bytes], suffix: str, column: str) -> Iterator[Item]:
    match suffix:
        case ".csv":
            return items_of_texts(_delimited(file, column, delimiter=",", quoting=csv.QUOTE_MINIMAL))
        case ".tsv":
            return items_of_texts(_delimited(file, column, delimiter="\t", quoting=csv.QUOTE_NONE))
        case ".jsonl" | ".ndjson":
            return items_of_texts(_json_lines(file, column))
        case ".parquet":
            return items_of_texts(_parquet(file, column))
        case _:
            return items_of_lines(file)


def _sequences(source: str) -> Iterator[Item]:
    for row in read(source):
        if isinstance(row, BadRow):
            raise DataError(f"{source}: row {row.number}: {row.reason}.")
        yield Item(row.input, f"row {row.number}, {len(row.input)} frames")


def _delimited(file: IO[bytes], column: str, **dialect: Any) -> Iterator[bytes]:
    csv.field_size_limit(MESSAGE_BYTES)
    with io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="") as lines:
        reader = csv.reader(lines, strict=True, **dialect)
        header = next(reader, [])
        _require(column, header)
        position = header.index(column)
        for fields in filter(None, reader):
            if len(fields) != len(header):
                raise DataError(f"line {reader.line_num}: got {len(fields)} columns, wanted {len(header)}.")
            yield fields[position].encode(errors="surrogateescape")


def _json_lines(file: IO[bytes], column: str) -> Iterator[bytes]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            item = json.loads(line.decode("utf-8-sig", "surrogateescape"))
        except ValueError as error:
            raise DataError(f"line {number}: not JSON ({error}).") from error
        if not isinstance(item, dict) or not isinstance(item.get(column), str):
            raise DataError(
                f'line {number}: wanted {{"{column}": "a text"}}, got {line[:60].decode(errors="replace")!r}.'
            )
        yield _bytes(item[column])


def _bytes(text: str) -> bytes:
    r"""Return a JSON string's bytes: the file's own, however bad; for a lone ``\ud800`` bytes that are not UTF-8."""
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return text.encode(errors="surrogatepass")


def _parquet(file: IO[bytes], column: str) -> Iterator[bytes]:
    table = pq.ParquetFile(file)
    _require(column, table.schema_arrow.names)
    kind = table.schema_arrow.field(column).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind)):
        raise DataError(f"column {column!r} holds {kind}, wanted text.")
    for batch in table.iter_batches(1024, columns=[column]):
        # As bytes: Arrow would refuse the whole batch for one value that is not UTF-8.
        yield from (value or b"" for value in batch.column(0).cast(kind).cast(pa.large_binary()).to_pylist())


def _require(column: str, names: list[str]) -> None:
    if column not in names:
        raise UsageError(f"no column {column!r}; there are: {', '.join(names) or 'none'}. Choose one with --column.")
