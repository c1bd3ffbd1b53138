"""A file to a prepared data set."""

from functools import partial
from pathlib import Path
from typing import Any

from pipeline.data.prepare import Fractions, OnBadRow, Source, prepare
from pipeline.errors import UsageError
from pipeline.readers.source import interface_of, read, sha256_of_source


def split(
    source: str,
    target: Path,
    *,
    text: str = "text",
    label: str = "label",
    fractions: Fractions = (0.8, 0.1, 0.1),
    test: str | None = None,
    seed: int = 0,
    on_bad_row: OnBadRow = "skip",
    replace: bool = False,
) -> Path:
    """Split a file into a prepared data set and return its folder.

    Args:
        source: a local path or a URI; its suffix chooses the reader.
        target: the folder to make; what it holds may be the same data set, or another one with `replace`.
        text: the column of the texts.
        label: the column of the class names.
        fractions: shares of train, validation and test; with `test`, the first two share the whole of `source`.
        test: a file that becomes the test split as it is; its inputs are taken out of the others.
        seed: of the draw.
        on_bad_row: skip and count rows that cannot be examples, or fail.
        replace: a prepared data set with other rows in `target`.

    Raises:
        DataError: a file is damaged, nothing can be learned from it, or rows are bad and `on_bad_row` says to fail.
        UsageError: a file, a column, a suffix or a fraction is wrong, or the target holds something else.
    """
    interface = interface_of(source)
    if test and interface_of(test) != interface:
        raise UsageError(f"{test}: holds {interface_of(test)}, and {source} {interface}; wanted the same.")
    rows = partial(read, source, text, label)
    test_rows = partial(read, test, text, label) if test else None
    record = {"file": _describe(source)} | ({"test": _describe(test)} if test else {})
    origin = Source(source, interface, rows, test_rows, record)
    return prepare(origin, target, fractions, seed, on_bad_row, replace=replace)


def _describe(source: str) -> dict[str, Any]:
    return {"name": source, "sha256": sha256_of_source(source)}
