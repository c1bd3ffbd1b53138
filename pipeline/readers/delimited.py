"""CSV and TSV to text records.

CSV is RFC 4180: fields may be quoted, and quoted fields may hold line breaks. TSV is IANA's text/tab-separated-values:
a quote is an ordinary character. Python's reader is used because Arrow's cannot say at which line a record begins.
"""

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Literal

from pipeline.errors import DataError
from pipeline.readers.rows import BadRow, Record, Records, require_columns

MOST_CHARACTERS = 64 * 2**20  # in one field; an unclosed quote reads no further


def read_delimited(file: IO[bytes], delimiter: str, text: str = "text", label: str | None = "label") -> Records:
    """Yield the records of a delimited file with a header line; blank lines are no rows.

    Raises:
        DataError: the file has no header line.
        UsageError: a column is missing, or named twice.
    """
    csv.field_size_limit(MOST_CHARACTERS)
    quoting: Literal[0, 3] = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    with _decoded(file) as lines:
        reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
        header = _header(reader)
        require_columns(header, text, label)
        columns = header.index(text), None if label is None else header.index(label)
        while (number := reader.line_num + 1) and (fields := _next(reader)) is not None:
            if isinstance(fields, str):
                yield BadRow(number, fields)
            elif fields:
                yield _record(number, fields, len(header), columns)


@contextmanager
def _decoded(file: IO[bytes]) -> Iterator[io.TextIOWrapper]:
    lines = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
    try:
        yield lines
    finally:
        with suppress(ValueError):  # the caller has closed the file already
            lines.detach()


def _next(reader: Iterator[list[str]]) -> list[str] | str | None:
    """Return the next record, or what is wrong with it, or None at the end."""
    try:
        return next(reader, None)
    except csv.Error as error:
        return f"malformed: {error}"


def _header(reader: Iterator[list[str]]) -> list[str]:
    try:
        return next(reader)
    except StopIteration:
        raise DataError("the file is empty; wanted a header line with the column names") from None
    except csv.Error as error:
        raise DataError(f"the header line cannot be read: {error}") from error


def _record(number: int, fields: list[str], width: int, columns: tuple[int, int | None]) -> Record | BadRow:
    if len(fields) != width:
        return BadRow(number, "malformed: wrong number of columns")
    text, label = columns
    return Record(number, fields[text], None if label is None else fields[label])
