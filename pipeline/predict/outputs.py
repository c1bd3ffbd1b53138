"""Predictions to lines of text, one format each; every line ends without its line break."""

import csv
import io
import json
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import accumulate

import numpy as np

from pipeline.client import Contract, Prediction
from pipeline.predict.inputs import Item

Answers = Iterable[tuple[Item, Prediction]]
NOT_TEXT = "not text"


def jsonl_lines(answers: Answers) -> Iterator[str]:
    """Yield one JSON object a row: text (or row), label, probability, probabilities, valid."""
    for item, prediction in answers:
        content = {"text" if prediction.valid is not None else "row": item.shown, "label": prediction.label}
        probabilities = {label: _short(value) for label, value in prediction.probabilities.items()}
        numbers = {"probability": _short(prediction.probability), "probabilities": probabilities}
        yield json.dumps({**content, **numbers, "valid": prediction.valid}, ensure_ascii=False)


def csv_lines(answers: Answers, contract: Contract) -> Iterator[str]:
    """Yield a header, and one record a row (RFC 4180; a text's own line breaks are kept, in quotes)."""
    is_text = contract.interface == "text"
    columns = ["label", "probability", *(f"probability of {name}" for name in contract.classes)]
    yield _record(["text", *columns, "valid"] if is_text else ["row", *columns])
    for item, prediction in answers:
        numbers = map(_short, (prediction.probability, *prediction.probabilities.values()))
        fields = [item.shown, prediction.label, *numbers]
        yield _record([*fields, str(prediction.valid).lower()] if is_text else fields)


def table_lines(answers: Answers, contract: Contract, width: int) -> Iterator[str]:
    """Yield a line a row, `width` columns wide at most: label, probability and as much of the text as fits."""
    names = (*contract.classes, NOT_TEXT) if contract.interface == "text" else contract.classes
    label_width = max(map(len, ("label", *names)))
    header = f"{'label':{label_width}}  probability  {'text' if contract.interface == 'text' else 'row'}"
    for count, (item, prediction) in enumerate(answers):
        if not count:
            yield header
        label, number = prediction.label, f"{prediction.probability:.4f}"
        if prediction.valid is False:
            label, number = NOT_TEXT, "-"
        start = f"{label:{label_width}}  {number:>11}  "
        yield (start + fit(item.shown, max(12, width - len(start)))).rstrip()


def fit(text: str, width: int) -> str:
    """Return text in one line and at most so many terminal columns, without what a terminal would obey."""
    clean = "".join(letter if letter.isprintable() else " " for letter in text[: 4 * width])
    ends = list(accumulate(map(_columns, clean)))
    return clean if not ends or ends[-1] <= width else clean[: bisect_left(ends, width)] + "…"


def _columns(letter: str) -> int:
    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def _short(probability: float) -> float:
    """Return a float32 with the digits that it has, not those of the double it became."""
    return float(str(np.float32(probability)))


def _record(fields: Iterable[object]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(fields)
    return line.getvalue().removesuffix("\r\n")
