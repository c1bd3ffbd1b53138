"""Texts to ask with: drawn from a file or a prepared data set, so that their lengths are those of real callers."""

import random
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from pipeline.errors import DataError, UsageError


def read_texts(source: Path | str, column: str = "text", count: int = 1000, seed: int = 0) -> list[bytes]:
    """Return texts of a file or of a prepared data set's test split, in random order, no row twice; no bad rows.

    Args:
        source: a folder is a prepared data set; a file is read by its suffix, one without a known suffix line by line.
        column: of the texts, in a table.
        count: how many; all of them where there are fewer.
        seed: of what is drawn.

    Raises:
        UsageError: there is no such file, data set or column, or it holds sequences of frames.
        DataError: it is damaged, or holds no text.
    """
    drawn = _drawn(_texts(source, column), count, seed)
    if not drawn:
        raise DataError(f"{source}: no text in it.")
    return drawn


def _texts(source: Path | str, column: str) -> Iterator[bytes]:
    from pipeline.dataset import Dataset  # not above: every client's process imports this room, and reads no file
    from pipeline.predict.inputs import Skipped, items_of_file

    if Path(source).is_dir():
        dataset = Dataset(Path(source))
        if dataset.interface != "text":
            raise UsageError(f"{source}: frames; `pipeline bench serve` asks with texts. Choose a data set of texts.")
        yield from (text.encode() for text in dataset.split("test").each_text())
        return
    for item in items_of_file(str(source), column, Skipped()):
        if not isinstance(item.row, bytes):
            raise UsageError(f"{source}: frames; `pipeline bench serve` asks with texts. Choose a file of texts.")
        yield item.row


def _drawn(texts: Iterable[bytes], count: int, seed: int) -> list[bytes]:
    """Draw evenly in one pass, with no more than `count` texts in memory.

    Source: Vitter, "Random sampling with a reservoir" (1985), algorithm R.
    """
    generator, remaining = random.Random(seed), iter(texts)  # noqa: S311  a sample, not a secret
    drawn = list(islice(remaining, count))
    for seen, text in enumerate(remaining, start=len(drawn) + 1):
        if (place := generator.randrange(seen)) < count:
            drawn[place] = text
    generator.shuffle(drawn)
    return drawn
