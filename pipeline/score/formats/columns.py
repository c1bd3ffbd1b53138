"""The columns that scoring adds, and what a file format can do."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pipeline.errors import UsageError
from pipeline.readers.rows import BadRow, require_columns
from pipeline.score.operator import Answers

WINDOW_ROWS = 8192  # sorted by length together
WINDOW_BYTES = 16 * 2**20  # of rows in memory
MOST_TEXT_BYTES = 8 * 2**20  # the tokenizer takes twenty times as much
TOO_LONG = f"a text of more than {MOST_TEXT_BYTES // 2**20} MiB"


@dataclass(frozen=True)
class Columns:
    """Which column is read, and which are added.

    Attributes:
        text: the column that is classified.
        prefix: what the names of the added columns begin with.
        classes: label names.
    """

    text: str
    prefix: str
    classes: tuple[str, ...]

    @property
    def added(self) -> tuple[str, ...]:
        """The names of label, probability, probabilities and valid."""
        return tuple(self.prefix + name for name in ("label", "probability", "probabilities", "valid"))

    def require_room(self, names: Iterable[str], added: Iterable[str]) -> None:
        """Check a table's column names.

        Raises:
            UsageError: the text's is missing or there twice, or one that would be added is there.
        """
        names = list(names)
        require_columns(names, self.text, None)
        if clash := [name for name in added if name in names]:
            raise UsageError(f"there is a column {clash[0]!r} already. Name the new ones otherwise with --prefix.")


@dataclass(frozen=True)
class Range:
    """A part of a file.

    Attributes:
        start: its first byte, of a text file, or row, of a table.
        stop: behind its last.
        rows: how many rows it holds.
        number: the line or row that it begins with, from 1.
    """

    start: int
    stop: int
    rows: int
    number: int


@dataclass(frozen=True)
class Window:
    """Rows that are in memory together.

    Attributes:
        rows: N rows, as their format has them.
        texts: N texts.
        bad: rows beside them that cannot be scored.
    """

    rows: Any
    texts: list[bytes]
    bad: list[BadRow]


Writer = Callable[[Window, Answers], None]
"""Writes rows with their answers to an open part."""


class Format(ABC):
    """What a file format can do; what it says of a file's content does not name the file."""

    def __init__(self, columns: Columns) -> None:
        self.columns = columns

    @abstractmethod
    def ranges(self, file: IO[bytes], rows: int) -> Iterator[Range]:
        """Cut a file into ranges of about so many rows, the same ones each time.

        Raises:
            DataError: the file is damaged as a whole.
            UsageError: the text's column is missing, or an added one is there already.
        """

    @abstractmethod
    def windows(self, file: IO[bytes], part: Range) -> Iterator[Window]:
        """Yield the rows of a range.

        Raises:
            DataError: the file cannot be read on.
        """

    @abstractmethod
    def writer(self, file: IO[bytes], path: Path) -> AbstractContextManager[Writer]:
        """Open a new part for rows of a file."""

    @abstractmethod
    def join(self, file: IO[bytes], parts: Sequence[Path], path: Path) -> None:
        """Write a file like the first out of its parts."""
