"""Rows in, a served model's predictions out: as a table, JSON lines or CSV, in the order of the rows.

::

    inputs.py       lines, tables and sequences to `Item`s: what is sent, and what is shown of it
    outputs.py      items and their predictions to lines of text
"""

from collections.abc import Generator, Iterable, Iterator
from itertools import tee

from pipeline.client import Client, Prediction, Split
from pipeline.errors import PipelineError
from pipeline.predict.inputs import Item


def predict(client: Client | Split, items: Iterable[Item]) -> Generator[tuple[Item, Prediction]]:
    """Yield each item with its prediction, in order, holding only a few requests' worth of items at once.

    What the items raise is raised after the answers to those before it.

    Raises:
        ServerError: the server cannot be reached, or refused.
        DataError: an item is not what the model takes, or the items raised it.
    """
    failures: list[PipelineError] = []
    shown, sent = tee(_until_failure(items, failures))
    # The predictions come first in the zip: they end when the items do, so that no item is left over.
    for prediction, item in zip(client.stream(item.row for item in sent), shown, strict=False):
        yield item, prediction
    for failure in failures:
        raise failure


def _until_failure(items: Iterable[Item], failures: list[PipelineError]) -> Iterator[Item]:
    try:
        yield from items
    except PipelineError as error:
        failures.append(error)
