"""What a reader yields: examples, and the rows that cannot be one."""

import difflib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError

Frames = NDArray[np.float32]  # (T, F)
Input = str | Frames


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled input.

    Attributes:
        number: the line (text files) or row (tables, arrays) it begins at in its file, from 1.
        input: a text, or (T, F) float32 frames.
        label: its class's name.
    """

    number: int
    input: Input
    label: str


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be an example: its line or row number, and why, in a few words that many rows share."""

    number: int
    reason: str


Row = Example | BadRow
Rows = Callable[[], Iterator[Row]]  # reads the source from its beginning each time it is called


def text_row(number: int, text: Any, label: Any) -> Row:
    """Return a text example, or why the row cannot be one."""
    if text is None or (isinstance(text, str) and not text.strip()):
        return BadRow(number, "empty text")
    if not isinstance(text, str):
        return BadRow(number, "text is not a string")
    if not is_unicode(text):
        return BadRow(number, "invalid UTF-8")
    return _labelled(number, text, label)


def feature_row(number: int, frames: Frames, label: Any) -> Row:
    """Return a feature example, or why the row cannot be one.

    Shapes:
        frames: (T, F) float32.
    """
    if not frames.size:
        return BadRow(number, "no frames")
    if not np.isfinite(frames).all():
        return BadRow(number, "missing or non-finite value")
    return _labelled(number, frames, label)


def is_unicode(text: str) -> bool:
    """Tell whether a string can be written as UTF-8 (undecodable bytes were read as lone surrogates)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def require_columns(names: Iterable[str], wanted: Iterable[str], what: str = "column") -> None:
    """Check that a file has the columns (or arrays) that were asked for.

    Raises:
        UsageError: one is missing; the message lists those there are, and the nearest.
    """
    names = list(names)
    choose = " Choose with --text and --label." if what == "column" else ""
    for column in wanted:
        if column not in names:
            near = difflib.get_close_matches(column, names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            shown = ", ".join(repr(name) for name in names[:20]) + (", …" if len(names) > 20 else "")
            raise UsageError(f"no {what} {column!r}{hint} The file has {shown}.{choose}")


def _labelled(number: int, value: Input, label: Any) -> Row:
    if label is None or label != label:
        return BadRow(number, "no label")
    if isinstance(label, bool):
        return Example(number, value, str(label).lower())
    if not isinstance(label, str | int | float | np.integer):
        return BadRow(number, "label is not a word or a number")
    name = str(label).strip()
    if not name:
        return BadRow(number, "no label")
    if not is_unicode(name):
        return BadRow(number, "invalid UTF-8")
    if not name.isprintable():
        return BadRow(number, "label holds a line break or another control character")
    return Example(number, value, name)
