"""Where the rows to classify come from: lines of plain text, a column of a table, or feature sequences.

Labels are neither wanted nor read here, and a text that is not UTF-8 is no error: it goes to the model as the bytes it
is.
"""

import codecs
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.client import Row
from pipeline.errors import DataError
from pipeline.readers.rows import BadRow, Record, fault_of_frames
from pipeline.readers.source import has_reader, open_source, read_records


@dataclass(frozen=True, slots=True)
class Item:
    """One row to classify, and how to show it: its text, or its number and length."""

    row: Row
    shown: str


def items_of_texts(texts: Iterable[bytes]) -> Iterator[Item]:
    """Yield texts as items."""
    return map(_text, texts)


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
    if not has_reader(source):
        with open_source(source) as file:
            yield from items_of_lines(file)
        return
    for record in read_records(source, column):
        reason = record.reason if isinstance(record, BadRow) else _fault(record)
        if isinstance(record, BadRow) or reason:
            raise DataError(f"{source}: {record.unit} {record.number}: {reason}.")
        yield _item(record)


def _fault(record: Record) -> str | None:
    if isinstance(record.input, np.ndarray):
        return fault_of_frames(record.input)
    return None if isinstance(record.input, str | None) else "text is not a string"


def _item(record: Record) -> Item:
    if isinstance(record.input, np.ndarray):
        return Item(record.input, f"{record.unit} {record.number}, {len(record.input)} frames")
    return _text(_bytes(record.input or ""))  # null is an empty text


def _text(content: bytes) -> Item:
    return Item(content, content.decode(errors="replace"))


def _bytes(text: str) -> bytes:
    r"""Return a text's bytes: the file's own, however bad; for a lone ``\ud800`` in JSON bytes that are not UTF-8."""
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return text.encode(errors="surrogatepass")
