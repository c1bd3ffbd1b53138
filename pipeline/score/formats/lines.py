"""CSV, TSV and JSON lines: a row's bytes stay as they are, and its answer is put behind them.

So nothing of the input is lost or told otherwise: leading zeros, quotes, the order of keys, bytes that are not UTF-8. A
row is what `pipeline.readers` takes for one; blank lines are none.
"""

import csv
import io
import json
import shutil
from abc import abstractmethod
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import pyarrow as pa

from pipeline.errors import DataError, UsageError
from pipeline.readers.delimited import MOST_CHARACTERS
from pipeline.readers.rows import BadRow, text_bytes
from pipeline.score.formats import columns as limits
from pipeline.score.formats.columns import Columns, Format, Range, Window, Writer
from pipeline.score.operator import Answers

MOST_LINE_BYTES = 64 * 2**20
RANGE_BYTES = 32 * 2**20

Line = tuple[int, bytes, Any]  # where a row begins, its bytes, and what they hold: None for a blank line


class Lines(Format):
    """Text files whose rows begin and end with a line."""

    def ranges(self, file: IO[bytes], rows: int) -> Iterator[Range]:
        """Cut a file wherever enough rows, or bytes, lie before one."""
        first = self._begin(file)
        start = stop = file.tell()
        count = 0
        for number, raw, content in self._records(file, first):
            if count >= rows or stop - start >= RANGE_BYTES:
                yield Range(start, stop, count, first)
                start, count, first = stop, 0, number
            stop += len(raw)
            count += content is not None
        if count:
            yield Range(start, stop, count, first)

    def windows(self, file: IO[bytes], part: Range) -> Iterator[Window]:
        """Yield a range's rows as their bytes."""
        self._begin(file)
        file.seek(part.start)
        left, size, window = part.stop - part.start, 0, Window([], [], [])
        for number, raw, content in self._records(file, part.number):
            if content is not None:
                _take(window, number, raw, self._text(content))
            left -= len(raw)
            size += len(raw)
            if left <= 0 or len(window.texts) == limits.WINDOW_ROWS or size >= limits.WINDOW_BYTES:
                yield window
                size, window = 0, Window([], [], [])
            if left <= 0:
                return

    @contextmanager
    def writer(self, file: IO[bytes], path: Path) -> Iterator[Writer]:  # noqa: ARG002  tables need it
        """Open a part, which has no header."""
        with path.open("wb") as part:

            def add(window: Window, answers: Answers) -> None:
                part.writelines(map(self._joined, window.rows, map(self._fields, *_columns(answers))))

            yield add

    def join(self, file: IO[bytes], parts: Sequence[Path], path: Path) -> None:
        """Write the header, if there is one, and the parts."""
        self._begin(file)
        length = file.tell()
        file.seek(0)
        with path.open("wb") as whole:
            whole.write(self._header(file.read(length)))
            for part in parts:
                with part.open("rb") as content:
                    shutil.copyfileobj(content, whole, 2**20)

    @abstractmethod
    def _begin(self, file: IO[bytes]) -> int:
        """Check the columns, go to the first row, and return its line's number."""

    @abstractmethod
    def _records(self, file: IO[bytes], number: int) -> Iterator[Line]:
        """Yield the rows from here on, and the blank lines."""

    @abstractmethod
    def _text(self, content: Any) -> bytes | str:
        """Return a row's text as bytes, or as a string what is wrong."""

    @abstractmethod
    def _header(self, raw: bytes) -> bytes:
        """Return what stands before the rows of the scored file."""

    @abstractmethod
    def _fields(self, label: str, valid: bool, *numbers: str) -> bytes:
        """Return an answer: of numbers, the label's probability and every class's."""

    @abstractmethod
    def _joined(self, raw: bytes, fields: bytes) -> bytes:
        """Return a row with its answer behind it."""


class Delimited(Lines):
    """CSV (RFC 4180) and TSV (IANA's) with a header line."""

    def __init__(self, columns: Columns, delimiter: str) -> None:
        super().__init__(columns)
        self.delimiter = delimiter
        self.shares = [f"{columns.added[1]} of {name}" for name in columns.classes]
        self.quoted = {name: self._record([name]) for name in columns.classes}
        self.names: list[str] = []

    def _begin(self, file: IO[bytes]) -> int:
        file.seek(0)
        for number, raw, names in self._records(file, 1):
            if isinstance(names, str):
                raise DataError(f"the header line cannot be read: {names}")
            label, probability, _, valid = self.columns.added
            self.columns.require_room(names or [], [label, probability, *self.shares, valid])
            self.names = names
            file.seek(len(raw))
            return number + raw.count(b"\n")
        raise DataError("the file is empty; wanted a header line with the column names")

    def _records(self, file: IO[bytes], number: int) -> Iterator[Line]:
        csv.field_size_limit(MOST_CHARACTERS)
        taken: list[bytes] = []

        def lines() -> Iterator[str]:
            for line in _lines(file):
                taken.append(line)
                content = line.removeprefix(BOM_UTF8) if number == len(taken) == 1 else line
                yield content.decode(errors="surrogateescape")

        quoting: Literal[0, 3] = csv.QUOTE_NONE if self.delimiter == "\t" else csv.QUOTE_MINIMAL
        reader = csv.reader(lines(), delimiter=self.delimiter, quoting=quoting, strict=True)
        while True:
            content: list[str] | str | None
            try:
                content = next(reader, None)
            except csv.Error as error:
                content = f"malformed: {error}"
            if not taken:
                return
            yield number, b"".join(taken), content or None
            number += len(taken)
            taken.clear()

    def _text(self, content: list[str] | str) -> bytes | str:
        if isinstance(content, str):
            return content
        if len(content) != len(self.names):
            return "malformed: wrong number of columns"
        return text_bytes(content[self.names.index(self.columns.text)])

    def _header(self, raw: bytes) -> bytes:
        label, probability, _, valid = self.columns.added
        return self._joined(raw, self._record([label, probability, *self.shares, valid]))

    def _fields(self, label: str, valid: bool, *numbers: str) -> bytes:
        fields = [self.quoted[label].decode(), *numbers] if valid else [""] * (1 + len(numbers))
        return self.delimiter.join([*fields, str(valid).lower()]).encode()

    def _joined(self, raw: bytes, fields: bytes) -> bytes:
        body = raw.removesuffix(b"\n").removesuffix(b"\r")
        return body + self.delimiter.encode() + fields + (raw[len(body) :] or b"\n")

    def _record(self, fields: list[str]) -> bytes:
        if self.delimiter == "\t":
            if any("\t" in field for field in fields):
                raise UsageError("a class's name holds a tab, which TSV cannot. Convert the file to CSV.")
            return "\t".join(fields).encode()
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow(fields)
        return line.getvalue().encode()


class JsonLines(Lines):
    """One JSON object on each line."""

    def __init__(self, columns: Columns) -> None:
        super().__init__(columns)
        self.keys = [json.dumps(name, ensure_ascii=False) for name in columns.added]
        self.quoted = {name: json.dumps(name, ensure_ascii=False) for name in columns.classes}

    def _begin(self, file: IO[bytes]) -> int:
        file.seek(0)
        for _, _, content in self._records(file, 1):
            row = None if content is None else _parsed(content)
            if isinstance(row, dict):
                self.columns.require_room(row, self.columns.added)
                break
        file.seek(0)
        return 1

    def _records(self, file: IO[bytes], number: int) -> Iterator[Line]:
        for line_number, raw in enumerate(_lines(file), start=number):
            content = raw.removeprefix(BOM_UTF8) if line_number == 1 else raw
            yield line_number, raw, content if content.strip() else None

    def _text(self, content: bytes) -> bytes | str:
        row = _parsed(content)
        if not isinstance(row, dict):
            return row
        if clash := [name for name in self.columns.added if name in row]:
            return f"has a key {clash[0]!r} already"
        text = row.get(self.columns.text)
        return text_bytes(text or "") if isinstance(text, str | None) else "text is not a string"

    def _header(self, raw: bytes) -> bytes:
        return raw

    def _fields(self, label: str, valid: bool, *numbers: str) -> bytes:
        shown, probability, *shares = [self.quoted[label], *numbers] if valid else ["null"] * (1 + len(numbers))
        each = ", ".join(f"{name}: {share}" for name, share in zip(self.quoted.values(), shares, strict=True))
        values = (shown, probability, f"{{{each}}}", str(valid).lower())
        return ", ".join(f"{key}: {value}" for key, value in zip(self.keys, values, strict=True)).encode()

    def _joined(self, raw: bytes, fields: bytes) -> bytes:
        body = raw.rstrip()[:-1].rstrip()
        return body + (b"" if body.endswith(b"{") else b", ") + fields + b"}" + (raw[len(raw.rstrip()) :] or b"\n")


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    try:
        while line := file.readline(MOST_LINE_BYTES + 1):
            if len(line) > MOST_LINE_BYTES:
                raise DataError(f"a line is longer than {MOST_LINE_BYTES // 2**20} MiB. Are these lines?")
            yield line
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}.") from error


def _parsed(line: bytes) -> dict[str, Any] | str:
    try:
        row = json.loads(line.decode(errors="surrogateescape"))
    except (ValueError, RecursionError):
        return "malformed: not JSON"
    return row if isinstance(row, dict) else "malformed: not a JSON object"


def _take(window: Window, number: int, raw: bytes, text: bytes | str) -> None:
    if isinstance(text, bytes) and len(text) <= limits.MOST_TEXT_BYTES:
        window.rows.append(raw)
        window.texts.append(text)
    else:
        window.bad.append(BadRow(number, text if isinstance(text, str) else limits.TOO_LONG))


def _columns(answers: Answers) -> list[list[Any]]:
    """Return labels, validity, and the numbers of each column, written as short as float32 can be."""
    numbers = np.column_stack([answers.probabilities.max(1), answers.probabilities]).T  # (1 + C, N)
    written = [pa.array(column).cast(pa.string()).to_pylist() for column in numbers]
    return [answers.labels, answers.valid.tolist(), *written]
