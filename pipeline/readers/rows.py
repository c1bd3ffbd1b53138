"""What a reader yields: records as they stand in the file, and, where they can be learned from, examples."""

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError

Frames = NDArray[np.float32]  # (T, F)
Input = str | Frames
Unit = Literal["line", "row"]  # what a row's number counts: lines of a text file, or rows of a table or of arrays


@dataclass(frozen=True, slots=True)
class Record:
    """One input as it stands in its file, judged by nobody yet.

    Attributes:
        number: the line (text files) or row (tables, arrays) it begins at in its file, from 1.
        input: (T, F) float32 frames, or a column's value: text, in which a byte that is not UTF-8 is a lone surrogate
            (`surrogateescape`), but also whatever else stands there, such as None or a number.
        label: what stands in the label's place; None when no label was asked for.
        unit: what `number` counts.
    """

    number: int
    input: Any
    label: Any = None
    unit: Unit = "line"


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled input to learn from.

    Attributes:
        number: the line or row it begins at in its file, from 1.
        input: a text, or (T, F) float32 frames.
        label: its class's name.
        unit: what `number` counts.
    """

    number: int
    input: Input
    label: str
    unit: Unit = "line"


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used: its line or row number, and why, in a few words that many rows share."""

    number: int
    reason: str
    unit: Unit = "line"


Records = Iterator[Record | BadRow]
Row = Example | BadRow
Rows = Callable[[], Iterator[Row]]  # reads the source from its beginning each time it is called


def examples(records: Iterable[Record | BadRow]) -> Iterator[Row]:
    """Yield each record as an example, or why it cannot be one."""
    for record in records:
        yield record if isinstance(record, BadRow) else _example(record)


def fault_of_frames(frames: Frames) -> str | None:
    """Return what is wrong with a sequence, or None.

    Shapes:
        frames: (T, F) float32.
    """
    if not frames.size:
        return "no frames"
    return None if np.isfinite(frames).all() else "missing or non-finite value"


def text_bytes(text: str) -> bytes:
    r"""Return a text's bytes: the file's own, however bad; for a lone ``\ud800`` in JSON bytes that are not UTF-8."""
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return text.encode(errors="surrogatepass")


def require_columns(names: Iterable[str], text: str, label: str | None) -> None:
    """Check that a table has the columns that were asked for.

    Raises:
        UsageError: one is missing, or there twice; the message lists those there are, the nearest, and the options that
            choose.
    """
    if label is None:
        _require(list(names), [text], "column", " Choose with --column.")
    else:
        _require(list(names), [text, label], "column", " Choose with --text and --label.")


def require_arrays(names: Iterable[str], wanted: Sequence[str]) -> None:
    """Check that an archive has the arrays that are read.

    Raises:
        UsageError: one is missing, or there twice; the message lists those there are, and the nearest.
    """
    _require(list(names), wanted, "array", "")


def _require(names: list[str], wanted: Sequence[str], what: str, choose: str) -> None:
    for name in wanted:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            shown = ", ".join(map(repr, names[:20])) + (", …" if len(names) > 20 else "")
            raise UsageError(f"no {what} {name!r}{hint} The file has {shown or 'none'}.{choose}")
        if (count := names.count(name)) > 1:
            raise UsageError(f"{what} {name!r} is there {count} times; wanted once. Rename all but one.{choose}")


def _example(record: Record) -> Row:
    is_frames = isinstance(record.input, np.ndarray)
    reason = (fault_of_frames if is_frames else _fault_of_text)(record.input) or _fault_of_label(record.label)
    if reason:
        return BadRow(record.number, reason, record.unit)
    label = str(record.label)
    name = label.lower() if isinstance(record.label, bool) else label.strip()
    return Example(record.number, record.input, name, record.unit)


def _fault_of_text(text: Any) -> str | None:
    if text is None or (isinstance(text, str) and not text.strip()):
        return "empty text"
    if not isinstance(text, str):
        return "text is not a string"
    return None if _is_unicode(text) else "invalid UTF-8"


def _fault_of_label(label: Any) -> str | None:
    if label is None or label != label:
        return "no label"
    if not isinstance(label, str | int | float | np.integer):
        return "label is not a word or a number"
    name = str(label).strip()
    if not name:
        return "no label"
    if not _is_unicode(name):
        return "invalid UTF-8"
    return None if name.isprintable() else "label holds a line break or another control character"


def _is_unicode(text: str) -> bool:
    """Tell whether a string can be written as UTF-8 (undecodable bytes were read as lone surrogates)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
