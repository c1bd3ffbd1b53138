"""Sequences of different lengths, stored end to end, and the batches that training and scoring take from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.signature import Interface


@dataclass(frozen=True)
class Sequences:
    """N sequences laid end to end.

    Attributes:
        values: (S,) token ids, int64 or int32, or (S, F) float32 frames, S the sum of all lengths; often mapped from a
            file, and larger than the memory.
        offsets: (N + 1,) int64; sequence i is ``values[offsets[i]:offsets[i + 1]]``. No sequence is empty.
    """

    values: np.ndarray
    offsets: np.ndarray

    @classmethod
    def join(cls, sequences: Sequence[np.ndarray]) -> "Sequences":
        """Lay sequences, each (T,) or (T, F), end to end."""
        lengths = np.fromiter((len(sequence) for sequence in sequences), np.int64, len(sequences))
        return cls(np.concatenate(sequences), np.concatenate([[0], np.cumsum(lengths)]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """(N,) int64."""
        return np.diff(self.offsets)

    def take(self, indices: np.ndarray) -> "Sequences":
        """Return some of the sequences, in the order asked for."""
        return Sequences.join([self.values[self.offsets[index] : self.offsets[index + 1]] for index in indices])

    def padded(self, indices: np.ndarray, width: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return some sequences as one batch, right-padded with zeros to the longest of them or to ``width``.

        Shapes:
            batch: (B, T) int64 or (B, T, F) float32; lengths: (B,) int64.
        """
        starts = self.offsets[indices]
        lengths = self.offsets[indices + 1] - starts
        steps = np.arange(width or int(lengths.max()))
        is_valid = steps < lengths[:, None]
        batch = self.values[np.where(is_valid, starts[:, None] + steps, 0)]
        batch = batch.astype(np.int64, copy=False) if batch.ndim == 2 else batch
        batch[~is_valid] = 0
        return batch, lengths


def feed(interface: Interface, rows: Sequence[Any]) -> dict[str, np.ndarray]:
    """Return what ONNX Runtime takes for some rows together."""
    if interface == "text":
        return {"text": np.array([[row] for row in rows], dtype=object)}
    features, lengths = Sequences.join(rows).padded(np.arange(len(rows)))
    return {"features": features, "lengths": lengths[:, None]}


def length_batches(
    lengths: np.ndarray, batch_size: int, generator: np.random.Generator | None = None, batch_tokens: int = 0
) -> list[np.ndarray]:
    """Return the indices of every sequence once, in batches of similar length.

    With a generator, sequences of nearly equal length are mixed anew and the batches come in random order (training);
    without one, the longest come first (scoring), so that memory runs out at once or not at all.

    Args:
        lengths: (N,) of the sequences.
        batch_size: sequences in a batch, at most.
        generator: of the random order.
        batch_tokens: rows × longest of a batch, at most; a sequence that is longer alone is a batch of its own. 0: no
            limit.
    """
    if generator is None:
        order = np.argsort(-lengths, kind="stable")
    else:
        order = np.argsort(lengths * generator.uniform(0.9, 1.1, len(lengths)), kind="stable")
    starts = _starts(lengths[order], batch_size, batch_tokens)
    batches = [order[start:end] for start, end in zip(starts, [*starts[1:], len(order)], strict=True)]
    if generator is not None:
        generator.shuffle(batches)
    return batches


def _starts(lengths: np.ndarray, batch_size: int, batch_tokens: int) -> list[int]:
    """Return where each batch of consecutive sequences begins."""
    if not batch_tokens:
        return list(range(0, len(lengths), batch_size))
    starts, longest = [0], 0
    for number, length in enumerate(lengths.tolist()):
        longest = max(longest, length)
        rows = number - starts[-1]
        if rows and (rows == batch_size or (rows + 1) * longest > batch_tokens):
            starts.append(number)
            longest = length
    return starts
