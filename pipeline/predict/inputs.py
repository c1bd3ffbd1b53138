"""Where the rows to classify come from: lines of plain text, a column of a table, or feature sequences.

Labels are neither wanted nor read here, and a text that is not UTF-8 is no error: it goes to the model as the bytes it
is.
"""

import codecs
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from pipeline.client import Row
from pipeline.errors import DataError
from pipeline.readers.rows import BadRow, Record, fault_of_frames, text_bytes
from pipeline.readers.source import has_reader, open_source, read_records

MOST_NAMED = 5  # skipped rows, in one line


@dataclass(frozen=True, slots=True)
class Item:
    """One row to classify.

    Attributes:
        number: the line or row it begins at in its source, from 1.
        row: what is sent: a text's bytes, or (T, F) float32 frames.
        shown: how to show it: its text, or its number and length.
    """

    number: int
    row: Row
    shown: str


@dataclass
class Skipped:
    """How many bad rows were left out, and the first of them."""

    count: int = 0
    first: list[BadRow] = field(default_factory=list)

    def add(self, row: BadRow) -> None:
        """Count one row."""
        self.count += 1
        if len(self.first) < MOST_NAMED:
            self.first.append(row)

    def __str__(self) -> str:
        """Return them as a line for a person."""
        named = [f"{row.unit} {row.number}: {row.reason}" for row in self.first]
        return f"skipped {self.count:,} bad row(s): {'; '.join([*named, *['…'] * (self.count > len(named))])}"


def items_of_texts(texts: Iterable[bytes]) -> Iterator[Item]:
    """Yield texts as items, numbered from 1."""
    return (_text(number, text) for number, text in enumerate(texts, start=1))


def items_of_lines(file: Iterable[bytes]) -> Iterator[Item]:
    """Yield the lines of a plain text file, each a text; an empty line is an empty text."""
    lines = (line.rstrip(b"\r\n") for line in file)
    return items_of_texts(
        line.removeprefix(codecs.BOM_UTF8) if not number else line for number, line in enumerate(lines)
    )


def items_of_file(source: str, column: str = "text", skipped: Skipped | None = None) -> Iterator[Item]:
    """Yield the rows of a local file or a URI, read by its suffix; one without a known suffix is plain text.

    Bad rows are added to `skipped` if it is given.

    Raises:
        UsageError: there is no such file or column.
        DataError: the file or, without `skipped`, a row cannot be read; the message names the file and the line or row.
    """
    if not has_reader(source):
        with open_source(source) as file:
            yield from items_of_lines(file)
        return
    for record in read_records(source, column):
        found = record if isinstance(record, BadRow) else _item(record)
        if isinstance(found, Item):
            yield found
        elif skipped is not None:
            skipped.add(found)
        else:
            raise DataError(
                f"{source}: {found.unit} {found.number}: {found.reason}. Mend the row, or use --on-bad-row=skip."
            )


def _item(record: Record) -> Item | BadRow:
    if isinstance(record.input, np.ndarray):
        if reason := fault_of_frames(record.input):
            return BadRow(record.number, reason, record.unit)
        return Item(record.number, record.input, f"{record.unit} {record.number}, {len(record.input)} frames")
    if not isinstance(record.input, str | None):
        return BadRow(record.number, "text is not a string", record.unit)
    return _text(record.number, text_bytes(record.input or ""))  # null is an empty text


def _text(number: int, content: bytes) -> Item:
    return Item(number, content, content.decode(errors="replace"))
