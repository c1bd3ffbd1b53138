"""One pass over the rows of a source: what is kept, and what is dropped and why.

Memory holds no inputs: for each distinct input a digest of 16 bytes, its label and its length.
"""

import hashlib
from array import array
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.readers.rows import BadRow, Example, Input, Row, Unit

MOST_NUMBERS = 20

Key = Callable[[Input], bytes]


@dataclass
class Tally:
    """How many rows met one fate, and the line or row numbers of the first of them."""

    count: int = 0
    lines: list[int] = field(default_factory=list)

    def add(self, number: int) -> None:
        """Count one row."""
        self.count += 1
        if len(self.lines) < MOST_NUMBERS:
            self.lines.append(number)


def exact(value: Input) -> bytes:
    """Return what makes two inputs the same: all their bytes."""
    if isinstance(value, str):
        return value.encode()
    return f"{value.shape}:".encode() + np.ascontiguousarray(value, np.float32).tobytes()


class Survey:
    """What one pass over a source found: every row is bad, kept, a duplicate, or in conflict.

    Attributes:
        name: what messages call the source.
        rows: all rows, good and bad.
        examples: the good ones.
        unit: what the rows' numbers count, lines or rows.
        bad: rows that cannot be examples, by reason.
        conflicts: rows that give an input another label than its first row did; no row with such an input is kept.
        classes: label names, and their numbers in the order met.
        slots: the distinct inputs: digest to position in the arrays below.
        labels: the class of each distinct input; -1 where its rows disagree.
        first: which example of the source is kept for it, counted from 0.
        copies: how many examples have it.
        lengths: its length by unit: words and characters, or frames.
        feature_size: F, the numbers in one frame; None for text.
    """

    def __init__(self, name: str = "", key: Key = exact) -> None:
        self.name = name
        self.rows = 0
        self.examples = 0
        self.unit: Unit = "line"
        self.bad: dict[str, Tally] = {}
        self.conflicts = Tally()
        self.classes: dict[str, int] = {}
        self.slots: dict[bytes, int] = {}
        self.labels = array("i")
        self.first = array("q")
        self.copies = array("q")
        self.lengths: dict[str, array[int]] = {}
        self.feature_size: int | None = None
        self._repeated: list[tuple[int, int]] = []  # slot and number of the first duplicates
        self._key = key

    def digest(self, value: Input) -> bytes:
        """Return the name under which `slots` knows an input."""
        return hashlib.blake2b(self._key(value), digest_size=16).digest()

    def read(self, rows: Iterable[Row]) -> "Survey":
        """Take in every row."""
        for row in rows:
            self.rows += 1
            self.unit = row.unit
            if isinstance(row, BadRow):
                self.bad.setdefault(row.reason, Tally()).add(row.number)
            else:
                self._add(row)
        return self

    @property
    def bad_rows(self) -> int:
        """How many rows cannot be examples."""
        return sum(tally.count for tally in self.bad.values())

    def kept(self) -> NDArray[np.bool_]:
        """Return which distinct inputs have one label: (distinct,) bool."""
        return np.asarray(self.labels, np.int64) >= 0

    def record(self) -> dict[str, Any]:
        """Return what was found, as JSON; the numbers listed are of the first rows only."""
        kept = self.kept()
        copies = np.asarray(self.copies, np.int64)
        repeated = [number for slot, number in self._repeated if kept[slot]]
        return {
            "rows": self.rows,
            "unit": self.unit,
            "bad": {reason: asdict(tally) for reason, tally in self.bad.items()},
            "duplicates": asdict(Tally(int((copies[kept] - 1).sum()), repeated)),
            "conflicts": {"inputs": int((~kept).sum())} | asdict(Tally(int(copies[~kept].sum()), self.conflicts.lines)),
        }

    def _add(self, example: Example) -> None:
        label = self.classes.setdefault(example.label, len(self.classes))
        slot = self.slots.setdefault(self.digest(example.input), len(self.slots))
        if slot == len(self.labels):
            self.labels.append(label)
            self.first.append(self.examples)
            self.copies.append(0)
            self._measure(example.input)
        elif self.labels[slot] != label:
            self.labels[slot] = -1
            self.conflicts.add(example.number)
        elif len(self._repeated) < MOST_NUMBERS:
            self._repeated.append((slot, example.number))
        self.copies[slot] += 1
        self.examples += 1

    def _measure(self, value: Input) -> None:
        if isinstance(value, str):
            lengths = {"words": len(value.split()), "characters": len(value)}
        else:
            lengths = {"frames": len(value)}
            self.feature_size = self.feature_size or value.shape[1]
        for unit, length in lengths.items():
            self.lengths.setdefault(unit, array("q")).append(length)
