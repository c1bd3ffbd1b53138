"""Predictions to lines of text, one format each; every line ends without its line break."""

import csv
import io
import json
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import accumulate

from pipeline.client import Contract, Prediction
from pipeline.client.prediction import shortest
from pipeline.predict.inputs import Item

Answers = Iterable[tuple[Item, Prediction]]
NOT_VALID = {"text": "not text", "features": "not valid"}


def jsonl_lines(answers: Answers) -> Iterator[str]:
    """Yield one JSON object a row: row, text (or frames), label, probability, probabilities, valid.

    Where `valid` is false, label and probabilities are null.
    """
    for item, prediction in answers:
        content = {"text": item.shown} if isinstance(item.row, bytes) else {"frames": len(item.row)}
        label, probability, *shares = _answer(prediction)
        probabilities = dict(zip(prediction.probabilities, shares, strict=True))
        answer = {"label": label, "probability": probability, "probabilities": probabilities, "valid": prediction.valid}
        yield json.dumps({"row": item.number, **content, **answer}, ensure_ascii=False)


def csv_lines(answers: Answers, contract: Contract) -> Iterator[str]:
    """Yield a header, and one record a row (RFC 4180; a text's own line breaks are kept, in quotes).

    Where `valid` is false, label and probabilities are empty.
    """
    content = "text" if contract.interface == "text" else "frames"
    shares = (f"probability of {name}" for name in contract.classes)
    yield _record(["row", content, "label", "probability", *shares, "valid"])
    for item, prediction in answers:
        shown = item.shown if isinstance(item.row, bytes) else len(item.row)
        valid = None if prediction.valid is None else str(prediction.valid).lower()
        yield _record([item.number, shown, *_answer(prediction), valid])


def table_lines(answers: Answers, contract: Contract, width: int) -> Iterator[str]:
    """Yield a line a row, `width` columns wide at most: label, probability and as much of the text as fits."""
    not_valid = NOT_VALID[contract.interface]
    label_width = max(map(len, ("label", not_valid, *contract.classes)))
    header = f"{'label':{label_width}}  probability  {'text' if contract.interface == 'text' else 'row'}"
    for count, (item, prediction) in enumerate(answers):
        if not count:
            yield header
        label, number = prediction.label, f"{prediction.probability:.4f}"
        if prediction.valid is False:
            label, number = not_valid, "-"
        start = f"{label:{label_width}}  {number:>11}  "
        yield (start + fit(item.shown, max(12, width - len(start)))).rstrip()


def fit(text: str, width: int) -> str:
    """Return text in one line and at most so many terminal columns, without what a terminal would obey."""
    clean = "".join(letter if letter.isprintable() else " " for letter in text[: 4 * width])
    ends = list(accumulate(map(_columns, clean)))
    return clean if not ends or ends[-1] <= width else clean[: bisect_left(ends, width)] + "…"


def _answer(prediction: Prediction) -> list[str | float | None]:
    """Return the label, its probability and every class's; of a row that is not valid, as many times None."""
    numbers = (prediction.probability, *prediction.probabilities.values())
    return [None] * (1 + len(numbers)) if prediction.valid is False else [prediction.label, *map(shortest, numbers)]


def _columns(letter: str) -> int:
    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def _record(fields: Iterable[object]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(fields)
    return line.getvalue().removesuffix("\r\n")
