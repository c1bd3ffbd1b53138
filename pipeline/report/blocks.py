"""What a page is made of: records that say what is shown, and never how it looks.

A section is a list of blocks; `templates/blocks.html` has one macro for each kind. A new section needs no new markup.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from markupsafe import Markup

Tone = Literal["plain", "good", "bad", "quiet"]


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: what stands in it.
        tone: ``good`` and ``bad`` carry a sign as well as a colour.
        fold: blocks that open under the text.
        fold_title: what is clicked to open them.
    """

    text: str
    tone: Tone = "plain"
    fold: tuple["Block", ...] = ()
    fold_title: str = ""


@dataclass(frozen=True)
class Column:
    """A column's heading; numbers are set flush right, hashes and the like in a fixed width."""

    title: str
    is_number: bool = False
    is_code: bool = False


@dataclass(frozen=True)
class Group:
    """Rows under one heading; the heading may be empty. The first cell of a row is the row's own heading."""

    rows: tuple[tuple[Cell, ...], ...]
    title: str = ""


@dataclass(frozen=True)
class Table:
    """Figures in rows and columns."""

    kind: ClassVar[str] = "table"
    caption: str
    columns: tuple[Column, ...]
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class Shade:
    """One cell of a matrix: a count, its share of the row (0 to 1), and both in words."""

    count: int
    share: float
    title: str


@dataclass(frozen=True)
class Matrix:
    """A square of counts, shaded by their share of the row.

    Shapes:
        rows: (C, C), row: the true class, column: the predicted one.
    """

    kind: ClassVar[str] = "matrix"
    caption: str
    labels: tuple[str, ...]
    rows: tuple[tuple[Shade, ...], ...]


@dataclass(frozen=True)
class Heat:
    """One cell of a heat map: what stands in it, how deep its shade is (0 to 1), and whether it is too much."""

    text: str
    depth: float = 0.0
    is_bad: bool = False


@dataclass(frozen=True)
class HeatMap:
    """Shaded figures at each place of two axes, whose rows come in groups.

    Attributes:
        caption: the heading.
        corners: what the groups, the rows in them and the columns are.
        columns: each column's heading.
        groups: heading, and each row's heading and cells.
    """

    kind: ClassVar[str] = "heat_map"
    caption: str
    corners: tuple[str, str, str]
    columns: tuple[str, ...]
    groups: tuple[tuple[str, tuple[tuple[str, tuple[Heat, ...]], ...]], ...]


@dataclass(frozen=True)
class Drawing:
    """A picture with the words that stand under it."""

    caption: str
    svg: Markup


@dataclass(frozen=True)
class Drawings:
    """Pictures side by side, as many as fit."""

    kind: ClassVar[str] = "drawings"
    items: tuple[Drawing, ...]


@dataclass(frozen=True)
class Facts:
    """Names and values."""

    kind: ClassVar[str] = "facts"
    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Note:
    """A paragraph; ``bad`` is a warning."""

    kind: ClassVar[str] = "note"
    text: str
    tone: Tone = "plain"


@dataclass(frozen=True)
class Code:
    """Text to copy, as it is."""

    kind: ClassVar[str] = "code"
    text: str


@dataclass(frozen=True)
class Failure:
    """What failed, and the command that makes it fail again."""

    kind: ClassVar[str] = "failure"
    text: str
    command: str


@dataclass(frozen=True)
class Fold:
    """Blocks that open on a click."""

    kind: ClassVar[str] = "fold"
    title: str
    blocks: tuple["Block", ...]


@dataclass(frozen=True)
class Stack:
    """Blocks above each other, beside their neighbour where there is room."""

    kind: ClassVar[str] = "stack"
    blocks: tuple["Block", ...]


Block: TypeAlias = Table | Matrix | HeatMap | Drawings | Facts | Note | Code | Failure | Fold | Stack


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        id: the anchor.
        title: the heading.
        lead: one sentence under it.
        blocks: what it shows.
        missing: the command that makes its file, where there is none yet.
    """

    id: str
    title: str
    lead: str
    blocks: tuple[Block, ...] = ()
    missing: str = ""


@dataclass(frozen=True)
class Figure:
    """A headline number, with what it is and what to hold it against."""

    value: str
    name: str
    beside: str


@dataclass(frozen=True)
class Head:
    """The top of the page: the model, whether it is verified, and the numbers that matter most."""

    name: str
    tone: Tone
    verdict: str
    sentence: str
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Page:
    """The whole page.

    Attributes:
        run: the run's path, as a shell takes it.
        head: the top.
        sections: the rest, in order.
        kind: what sort of page it is.
    """

    run: str
    head: Head
    sections: tuple[Section, ...]
    kind: str = "Run report"
