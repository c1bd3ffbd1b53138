"""The profile of a file, or of a prepared data set."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pipeline.data.profile import DROPPED, Profile, describe, findings
from pipeline.data.survey import Survey
from pipeline.dataset import HELD_OUT, SPLITS, Dataset, SplitName
from pipeline.errors import DataError, UsageError
from pipeline.readers.rows import Example, Input, Row
from pipeline.readers.source import interface_of, read

ROWS_AT_ONCE = 1024


def inspect(path: str, *, text: str = "text", label: str = "label") -> Profile:
    """Describe a file (a local path or a URI), or the folder of a prepared data set.

    Raises:
        DataError: it is damaged, or holds no usable row.
        UsageError: there is no such file or column, no reader for its suffix, or the folder is no prepared data set.
    """
    if "://" in path or Path(path).is_file():
        return _inspect_file(path, text, label)
    if not Path(path).is_dir():
        raise UsageError(f"{path}: no such file or folder.")
    return _inspect_folder(Path(path))


def _inspect_file(path: str, text: str, label: str) -> Profile:
    survey = Survey().read(read(path, text, label))
    if not survey.rows:
        raise DataError(f"{path}: holds no rows.")
    places = np.where(survey.kept(), 0, DROPPED)
    return describe(interface_of(path), ("file",), [(survey, places)], {"file": survey.record()})


def _inspect_folder(path: Path) -> Profile:
    dataset = Dataset(path)
    surveys = {name: Survey().read(_rows(dataset, name)) for name in SPLITS}
    parts = [(survey, np.full(len(survey.slots), place)) for place, survey in enumerate(surveys.values())]
    splits_of = Counter(digest for survey in surveys.values() for digest in survey.slots)
    return describe(
        dataset.interface,
        SPLITS,
        parts,
        findings(dataset),
        unseen=_unseen(dataset) if dataset.interface == "text" else {},
        straddling=sum(count > 1 for count in splits_of.values()),
    )


def _rows(dataset: Dataset, name: SplitName) -> Iterator[Row]:
    split = dataset.split(name)
    for start in range(0, len(split), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        inputs: Sequence[Input] = split.texts(rows) if dataset.interface == "text" else split.frames(rows)
        for offset, (value, label) in enumerate(zip(inputs, split.labels[rows], strict=True)):
            yield Example(start + offset + 1, value, dataset.classes[label], "row")


def _unseen(dataset: Dataset) -> dict[str, dict[str, float]]:
    train = _vocabulary(dataset, "train")
    return {
        name: {unit: _share(train[unit], found) for unit, found in _vocabulary(dataset, name).items()}
        for name in HELD_OUT
    }


def _vocabulary(dataset: Dataset, name: SplitName) -> dict[str, Counter[str]]:
    words: Counter[str] = Counter()
    characters: Counter[str] = Counter()
    for row in _rows(dataset, name):
        if isinstance(row, Example) and isinstance(row.input, str):
            words.update(row.input.split())
            characters.update(row.input)
    return {"words": words, "characters": characters}


def _share(known: Counter[str], found: Counter[str]) -> float:
    return sum(count for item, count in found.items() if item not in known) / max(found.total(), 1)
