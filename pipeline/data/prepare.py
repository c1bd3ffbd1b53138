"""Rows to a prepared data set: survey them, assign each kept input to a split, write.

The rows are read twice, so that memory holds digests and never the inputs themselves.
"""

from collections.abc import Container
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipeline.data.profile import DROPPED, Places, Profile, describe
from pipeline.data.survey import Key, Survey, exact
from pipeline.dataset import SPLITS
from pipeline.dataset_writer import DatasetWriter, claim, create_dataset
from pipeline.errors import DataError, UsageError
from pipeline.readers.rows import Example, Rows
from pipeline.signature import Interface

OnBadRow = Literal["skip", "fail"]
Fractions = tuple[float, float, float]

TEST = SPLITS.index("test")


@dataclass(frozen=True)
class Source:
    """Where rows come from.

    Attributes:
        name: what messages call it.
        rows: yields the rows to split, from the beginning at each call.
        test_rows: yields the rows of a test set that is kept as it is; None to carve one out of `rows`.
        record: where the rows come from, for ``dataset.json``.
        key: what makes two inputs the same.
    """

    name: str
    interface: Interface
    rows: Rows
    test_rows: Rows | None
    record: dict[str, Any]
    key: Key = exact


def prepare(
    source: Source,
    target: Path,
    fractions: Fractions,
    seed: int,
    on_bad_row: OnBadRow = "skip",
    *,
    replace: bool = False,
) -> Path:
    """Write a prepared data set and return its folder; one with other rows is replaced only if `replace` says so.

    Raises:
        DataError: nothing can be learned from the rows, or some are bad and `on_bad_row` says to fail.
        UsageError: the fractions are wrong, or the target holds something else.
    """
    fractions = _checked(fractions, has_test=source.test_rows is not None)
    claim(target)
    parts = _survey(source, fractions, seed, on_bad_row)
    with create_dataset(target, source.interface, replace=replace) as writer:
        for part in parts.values():
            _write(writer, part)
        profile = _profile(source.interface, parts)
        writer.profile = asdict(profile) | {"fractions": list(fractions), "seed": seed, "source": source.record}
    return target


@dataclass(frozen=True)
class _Part:
    rows: Rows
    survey: Survey
    places: Places


def _survey(source: Source, fractions: Fractions, seed: int, on_bad_row: OnBadRow) -> dict[str, _Part]:
    file = Survey(source.name, source.key).read(source.rows())
    _check_rows(file, on_bad_row)
    if len(file.classes) < 2:
        raise DataError(
            f"{file.name}: one class only, {next(iter(file.classes))!r}; wanted at least two.{_also_bad(file)}"
        )
    if source.test_rows is None:
        return {"file": _Part(source.rows, file, assign(file, fractions, seed))}
    test = Survey(f"{source.name} (test)", source.key).read(source.test_rows())
    _check_rows(test, on_bad_row)
    _check_test(file, test)
    return {
        "file": _Part(source.rows, file, assign(file, fractions, seed, taken=test.slots)),
        "test": _Part(source.test_rows, test, np.where(test.kept(), TEST, DROPPED)),
    }


def _profile(interface: Interface, parts: dict[str, _Part]) -> Profile:
    read = {name: part.survey.record() for name, part in parts.items()}
    file = parts["file"]
    read["file"]["also_in_test"] = int((file.survey.kept() & (file.places == DROPPED)).sum())
    return describe(interface, SPLITS, [(part.survey, part.places) for part in parts.values()], read)


def assign(survey: Survey, fractions: Fractions, seed: int, taken: Container[bytes] = ()) -> Places:
    """Draw a split for every distinct input that is kept: stratified, and the same for the same seed.

    Args:
        survey: the inputs.
        fractions: the splits' shares.
        seed: of the draw.
        taken: digests of inputs that stand in a test set already, and are dropped here.

    Returns:
        (distinct,) int64, positions in SPLITS, or DROPPED.

    Raises:
        DataError: a class has too few rows to be in every split.
    """
    generator = np.random.default_rng(seed)
    labels = np.asarray(survey.labels, np.int64)
    is_free = survey.kept() & np.fromiter((digest not in taken for digest in survey.slots), bool, len(survey.slots))
    places = np.full(len(labels), DROPPED)
    for name in sorted(survey.classes):
        rows = np.flatnonzero(is_free & (labels == survey.classes[name]))
        wanted = sum(fraction > 0 for fraction in fractions)
        if len(rows) < wanted:
            raise DataError(
                f"{survey.name}: class {name!r} has {len(rows)} distinct row(s), and {wanted} splits need one each. "
                f"Add rows of it, or leave it out.{_also_bad(survey)}"
            )
        places[generator.permutation(rows)] = np.repeat(np.arange(len(SPLITS)), sizes_of(len(rows), fractions))
    return places


def sizes_of(count: int, fractions: Fractions) -> Places:
    """Share out a class's rows by largest remainder, at least one to each split that wants any: (3,) int64."""
    exactly = np.asarray(fractions) * count
    sizes: Places = np.floor(exactly + 1e-9).astype(np.int64)
    sizes[np.argsort(sizes - exactly, kind="stable")[: count - sizes.sum()]] += 1
    for place in np.flatnonzero((exactly > 0) & (sizes == 0)):
        sizes[np.argmax(sizes)] -= 1
        sizes[place] = 1
    return sizes


def _checked(fractions: Fractions, has_test: bool) -> Fractions:
    shown = ",".join(f"{fraction:g}" for fraction in fractions)
    if len(fractions) != len(SPLITS) or not all(0 <= fraction <= 1 for fraction in fractions):
        raise UsageError(f"fractions {shown}: wanted three numbers from 0 to 1: train, validation, test.")
    if not abs(sum(fractions) - 1) <= 1e-6:
        raise UsageError(f"fractions {shown}: they sum to {sum(fractions):g}; wanted 1.")
    train, validation, test = fractions
    if not (train > 0 and validation > 0 and (test > 0 or has_test)):
        raise UsageError(f"fractions {shown}: every split needs a share; only with --test FILE may the last be 0.")
    return (train / (train + validation), validation / (train + validation), 0.0) if has_test else fractions


def _check_rows(survey: Survey, on_bad_row: OnBadRow) -> None:
    first = "; ".join(_first_bad(survey))
    if first and on_bad_row == "fail":
        raise DataError(f"{survey.name}: {survey.bad_rows:,} bad row(s): {first}. Mend them, or use --on-bad-row=skip.")
    if not survey.examples:
        raise DataError(f"{survey.name}: no usable row among {survey.rows:,}{': ' if first else ''}{first}.")
    if not survey.kept().any():
        raise DataError(
            f"{survey.name}: every input has conflicting labels, first at {survey.unit} {survey.conflicts.lines[0]}."
            f"{_also_bad(survey)}"
        )


def _first_bad(survey: Survey) -> list[str]:
    found = sorted((number, reason) for reason, tally in survey.bad.items() for number in tally.lines)[:5]
    return [f"{survey.unit} {number}: {reason}" for number, reason in found]


def _also_bad(survey: Survey) -> str:
    """Return what may be why too few rows are left, as a further sentence; nothing if no row was bad."""
    if not survey.bad:
        return ""
    return f" {survey.bad_rows:,} of {survey.rows:,} rows are bad, the first at {_first_bad(survey)[0]}."


def _check_test(file: Survey, test: Survey) -> None:
    if unknown := sorted(set(test.classes) - set(file.classes)):
        raise DataError(
            f"{test.name}: class {unknown[0]!r} is not in {file.name}, which has {', '.join(sorted(file.classes))}."
        )
    if file.feature_size != test.feature_size:
        raise DataError(f"{test.name}: {test.feature_size} numbers a frame; {file.name} has {file.feature_size}.")


def _write(writer: DatasetWriter, part: _Part) -> None:
    survey = part.survey
    examples = (row for row in part.rows() if isinstance(row, Example))
    for position, example in enumerate(examples):
        slot = survey.slots.get(survey.digest(example.input))
        if slot is None:
            raise DataError(f"{survey.name}: changed while it was being read. Run the command again.")
        if survey.first[slot] == position and part.places[slot] != DROPPED:
            writer.write(SPLITS[part.places[slot]], example.input, example.label)
