"""What a person and a program want to know about a data set before anything is learned from it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.survey import Survey
from pipeline.dataset import Dataset, damaged, has_shape
from pipeline.signature import Interface

Places = NDArray[np.int64]  # the column in which each distinct input stands, or
DROPPED = -1
MOST_CLASSES_SHOWN = 20

_TALLY = {"count": int, "lines": [int]}
_FOUND = {"rows": int, "bad": dict, "duplicates": _TALLY, "conflicts": {"inputs": int, **_TALLY}}


@dataclass(frozen=True)
class Profile:
    """Describe a file (one column, ``file``) or a prepared data set (one column for each split).

    Attributes:
        classes: the label names, in the order of their numbers.
        feature_size: F, the numbers in one frame; None for text.
        rows: distinct usable rows in each column.
        class_rows: the same for each class.
        lengths: quantiles of the usable rows' lengths: words (divided by white space) and characters, or frames.
        read: what each file that was read held: rows, bad rows by reason, duplicates, conflicts.
        unseen: prepared text only: the share of a split's words and characters that the training split does not have.
        straddling: prepared only: rows of one split whose input also stands in another.
    """

    interface: Interface
    classes: tuple[str, ...]
    feature_size: int | None
    rows: dict[str, int]
    class_rows: dict[str, dict[str, int]]
    lengths: dict[str, dict[str, int]]
    read: dict[str, dict[str, Any]]
    unseen: dict[str, dict[str, float]] = field(default_factory=dict)
    straddling: int = 0

    @classmethod
    def load(cls, folder: Path) -> "Profile":
        """Read the profile that a prepared data set was written with."""
        content = Dataset(folder).profile
        return cls(**{key.name: content[key.name] for key in fields(cls)})

    def lines(self) -> Iterator[str]:
        """Yield the profile as lines for a person."""
        size = f", {self.feature_size} numbers a frame" if self.feature_size else ""
        yield f"{self.interface}: {sum(self.rows.values()):,} rows, {len(self.classes)} classes{size}"
        yield from _table(self)
        for unit, found in self.lengths.items():
            yield f"{unit} in a row: " + " · ".join(f"{name} {value:,}" for name, value in found.items())
        for name, found in self.read.items():
            yield from _read_lines(name, found)
        for split, unseen in self.unseen.items():
            shares = ", ".join(f"{share:.2%} of {unit}" for unit, share in unseen.items())
            yield f"not in the training split: {shares} of {split}"
        if self.straddling:
            yield f"{self.straddling:,} rows stand in more than one split"


def describe(
    interface: Interface,
    columns: Sequence[str],
    parts: Sequence[tuple[Survey, Places]],
    read: dict[str, dict[str, Any]],
    **more: Any,
) -> Profile:
    """Describe surveyed rows, each distinct input of which stands in one column or is dropped.

    Shapes:
        parts: with each survey (distinct,) int64, a position in `columns` or DROPPED.
    """
    classes = sorted({name for survey, _ in parts for name in survey.classes})
    table = np.zeros((len(classes), len(columns)), np.int64)
    for survey, places in parts:
        numbers = np.array([classes.index(name) for name in survey.classes], np.int64)
        kept = places != DROPPED
        np.add.at(table, (numbers[np.asarray(survey.labels, np.int64)[kept]], places[kept]), 1)
    return Profile(
        interface,
        tuple(classes),
        parts[0][0].feature_size,
        dict(zip(columns, table.sum(axis=0).tolist(), strict=True)),
        {name: dict(zip(columns, row.tolist(), strict=True)) for name, row in zip(classes, table, strict=True)},
        {unit: _quantiles(unit, parts) for unit in parts[0][0].lengths},
        read,
        **more,
    )


def findings(dataset: Dataset) -> dict[str, dict[str, Any]]:
    """Return what each file that a prepared data set was made from held: a profile's `read`.

    Raises:
        DataError: ``dataset.json`` was edited.
    """
    read: dict[str, dict[str, Any]] = dataset.profile.get("read", {})
    if not has_shape(read, dict) or not all(has_shape(found, _FOUND) for found in read.values()):
        raise damaged(dataset.path)
    for found in read.values():
        has_tallies = all(has_shape(tally, _TALLY) for tally in found["bad"].values())
        if not has_tallies or not has_shape(found.get("also_in_test", 0), int):
            raise damaged(dataset.path)
    return read


def _quantiles(unit: str, parts: Sequence[tuple[Survey, Places]]) -> dict[str, int]:
    lengths = np.concatenate(
        [np.asarray(survey.lengths[unit])[places != DROPPED] for survey, places in parts if survey.slots]
    )
    if not len(lengths):
        return {}
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {name: int(np.quantile(lengths, share, method="inverted_cdf")) for name, share in shares.items()}


def _table(profile: Profile) -> Iterator[str]:
    counts = list(profile.class_rows.items())
    shown = [*counts[:MOST_CLASSES_SHOWN], ("all", profile.rows)]
    width = max(len(name) for name, _ in shown)
    yield "  ".join([" " * width, *(f"{column:>10}" for column in profile.rows)])
    for name, row in shown:
        if name == "all" and len(counts) > MOST_CLASSES_SHOWN:
            yield f"… and {len(counts) - MOST_CLASSES_SHOWN} more classes"
        yield "  ".join([name.ljust(width), *(f"{row[column]:>10,}" for column in profile.rows)])


def _read_lines(name: str, found: dict[str, Any]) -> Iterator[str]:
    bad = sum(tally["count"] for tally in found["bad"].values())
    conflicts = found["conflicts"]
    also = f", {found['also_in_test']:,} that stand in the test set" if found.get("also_in_test") else ""
    yield (
        f"{name}: {found['rows']:,} rows read; left out {bad:,} bad, {found['duplicates']['count']:,} duplicates, "
        f"{conflicts['inputs']:,} inputs with conflicting labels ({conflicts['count']:,} rows){also}"
    )
    for reason, tally in found["bad"].items():
        numbers = ", ".join(map(str, tally["lines"])) + (", …" if tally["count"] > len(tally["lines"]) else "")
        yield f"  {reason}: {tally['count']:,} ({found.get('unit', 'line')} {numbers})"
