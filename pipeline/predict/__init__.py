"""Rows in, a served model's predictions out: as a table, JSON lines or CSV, in the order of the rows.

::

    inputs.py       lines, tables and sequences to `Item`s: what is sent, and what is shown of it
    outputs.py      items and their predictions to lines of text
"""

from collections.abc import Generator, Iterable
from itertools import tee

from pipeline.client import Client, Prediction
from pipeline.predict.inputs import Item


def predict(client: Client, items: Iterable[Item]) -> Generator[tuple[Item, Prediction]]:
    """Yield each item with its prediction, in order, holding only a few requests' worth of items at once.

    Raises:
        ServerError: the server cannot be reached, or refused.
        DataError: an item is not what the model takes.
    """
    shown, sent = tee(items)
    # The predictions come first in the zip: they end when the items do, so that no item is left over.
    for prediction, item in zip(client.stream(item.row for item in sent), shown, strict=False):
        yield item, prediction
