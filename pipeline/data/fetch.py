"""A named set to a prepared data set: its package is downloaded once, and its files are read inside the wheel."""

import html
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO

from pipeline.data.catalog import NamedSet, find
from pipeline.data.download import download, open_member
from pipeline.data.prepare import Source, prepare
from pipeline.data.survey import Key, exact
from pipeline.errors import PipelineError
from pipeline.readers.delimited import read_delimited
from pipeline.readers.npz import Arrays, read_npz
from pipeline.readers.rows import Example, Input, Records, Row, Rows, examples
from pipeline.readers.ts import read_ts

LEAST_RATING = 0.5  # of -4 to 4: nearer to zero is neither positive nor negative
TREC_CLASSES = {"0": "DESC", "1": "ENTY", "2": "ABBR", "3": "HUM", "4": "NUM", "5": "LOC"}
TREC_TRAIN_ROWS = 5452  # the file holds the official training set, and then the official test set


def fetch(name: str, target: Path | None = None, seed: int = 0, *, replace: bool = False) -> Path:
    """Prepare a named set and return its folder, ``data/NAME`` by default.

    Raises:
        DataError: the registry cannot be reached, or the package does not hold what it should.
        UsageError: there is no such set, or the target holds something else and `replace` does not say so.
    """
    named = find(name)
    wheel = download(named.package)
    package = {"package": named.package.pin, "sha256": named.package.sha256, "licence": named.package.licence}
    rows, test_rows, key = PARTS[name](wheel, named)
    source = Source(name, named.interface, rows, test_rows, package | {"name": name, "files": list(named.members)}, key)
    return prepare(source, target or Path("data") / name, named.fractions, seed, replace=replace)


def same_words(value: Input) -> bytes:
    """Return what makes two short texts the same to a reader: their words, whatever the case and the punctuation."""
    words = re.findall(r"\w+", value.lower()) if isinstance(value, str) else []
    return " ".join(words).encode() or exact(value)


Parts = tuple[Rows, Rows | None, Key]


def _sentiment(wheel: Path, named: NamedSet) -> Parts:
    def rows() -> Iterator[Row]:
        for member in named.members:
            for row in _member(wheel, member, partial(read_delimited, delimiter="\t", label="sentiment")):
                if isinstance(row, Example) and abs(float(row.label)) >= LEAST_RATING:
                    label = "positive" if float(row.label) > 0 else "negative"
                    text = html.unescape(html.unescape(str(row.input)))  # some were escaped twice
                    yield Example(row.number, text, label)

    return rows, None, same_words


def _trec(wheel: Path, named: NamedSet) -> Parts:
    def rows(is_test: bool) -> Iterator[Row]:
        read = partial(read_delimited, delimiter=",", label="label-coarse")
        for position, row in enumerate(_member(wheel, named.members[0], read)):
            if isinstance(row, Example) and (position >= TREC_TRAIN_ROWS) is is_test:
                yield Example(row.number, row.input, TREC_CLASSES[row.label])

    return partial(rows, False), partial(rows, True), exact


def _series(wheel: Path, named: NamedSet) -> Parts:
    train, test = (partial(_member, wheel, member, read_ts) for member in named.members)
    return train, test, exact


def _digits(wheel: Path, named: NamedSet) -> Parts:
    arrays = Arrays(features="X", labels="y")
    return partial(_member, wheel, named.members[0], partial(read_npz, arrays=arrays)), None, exact


def _member(wheel: Path, member: str, read: Callable[[IO[bytes]], Records]) -> Iterator[Row]:
    with open_member(wheel, member) as file:
        try:
            yield from examples(read(file))
        except PipelineError as error:
            raise type(error)(f"{wheel.name}: {member}: {error}") from error


PARTS: dict[str, Callable[[Path, NamedSet], Parts]] = {
    "sentiment": _sentiment,
    "trec": _trec,
    "vowels": _series,
    "motions": _series,
    "digits": _digits,
}
