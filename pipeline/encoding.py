"""A split's rows as sequences: texts through the tokenizer graph, frames as they are; made once, read from the disk."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from pipeline import __version__
from pipeline.cache import made_once
from pipeline.dataset import Split
from pipeline.runtime import VERSION
from pipeline.sequences import Sequences
from pipeline.tokenizer import Tokenizer


def encode(split: Split, tokenizer: Tokenizer | None) -> Sequences:
    """Return a split's sequences; a feature split has no tokenizer.

    A whole split's are cached under the hashes of the split and of the tokenizer, and mapped into memory, of which they
    need not fill any: neither here nor in training must they fit.

    Raises:
        PipelineError: the cache cannot be written.
    """
    if split.sha256 is None:
        return _joined(_windows(split, tokenizer))
    return stored((split.sha256, tokenizer.sha256 if tokenizer else "frames"), partial(_windows, split, tokenizer))


def stored(origins: Iterable[str], windows: Callable[[], Iterator[Sequences]]) -> Sequences:
    """Return the sequences of all windows, end to end, mapped from the cache; they are made if they are not there.

    Args:
        origins: hashes of all that they follow from.
        windows: makes them, a part at a time.
    """
    name = f"encoded-{hashlib.sha256(' '.join((__version__, VERSION, *origins)).encode()).hexdigest()}"
    folder = made_once(name, lambda unfinished: _write(unfinished, windows()))
    offsets, shape = np.load(folder / "offsets.npy"), np.load(folder / "shape.npy")
    dtype = np.int32 if len(shape) == 1 else np.float32
    return Sequences(np.asarray(np.memmap(folder / "values", dtype, "r", shape=tuple(shape))), offsets)


def _windows(split: Split, tokenizer: Tokenizer | None) -> Iterator[Sequences]:
    for rows in split.windows():
        yield tokenizer.encode(split.texts(rows)) if tokenizer else Sequences.join(split.frames(rows))


def _joined(windows: Iterator[Sequences]) -> Sequences:
    parts = list(windows)
    lengths = np.concatenate([part.lengths for part in parts])
    return Sequences(np.concatenate([part.values for part in parts]), np.concatenate([[0], np.cumsum(lengths)]))


def _write(folder: Path, windows: Iterator[Sequences]) -> None:
    """Write ``values``, as they are in memory, ``offsets.npy`` (N + 1,) and ``shape.npy``, that of the values."""
    lengths: list[np.ndarray] = []
    shape: tuple[int, ...] = (0,)
    with (folder / "values").open("wb") as file:
        for part in windows:
            values = part.values.astype(np.int32 if part.values.ndim == 1 else np.float32, copy=False)
            file.write(np.ascontiguousarray(values).data)
            lengths.append(part.lengths)
            shape = (shape[0] + len(values), *values.shape[1:])
    np.save(folder / "offsets.npy", np.concatenate([[0], np.cumsum(np.concatenate(lengths))]))
    np.save(folder / "shape.npy", np.array(shape))
