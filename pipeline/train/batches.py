"""From a training split to the batches of each optimiser step, made while the step before is computed."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.recipe import TrainKeys
from pipeline.sequences import Sequences, length_batches
from pipeline.train.augment import Augmentation
from pipeline.train.processes import Processes

_AHEAD = 2


@dataclass(frozen=True)
class Examples:
    """Sequences and the class, (N,) int64, of each."""

    sequences: Sequences
    labels: np.ndarray


@dataclass(frozen=True)
class Batch:
    """This process's rows of one batch.

    Attributes:
        inputs: (B, T) token ids or (B, T, F) frames.
        lengths: (B,).
        labels: (B,).
        share: what each row counts: 1 / the rows that make the optimiser step, in all processes.
        tokens: valid steps.
    """

    inputs: Tensor
    lengths: Tensor
    labels: Tensor
    share: float
    tokens: int


def plan(lengths: np.ndarray, keys: TrainKeys, epoch: int) -> list[list[np.ndarray]]:
    """Return, for each optimiser step of an epoch, the rows of its batches; seed and epoch decide alone."""
    generator = np.random.default_rng((keys.seed, epoch))
    batches = length_batches(lengths, keys.batch_size, generator, keys.batch_tokens)
    return [batches[start : start + keys.accumulate] for start in range(0, len(batches), keys.accumulate)]


@dataclass(frozen=True)
class Loader:
    """Makes batches of a training split.

    Attributes:
        examples: the split.
        augmentation: how it is varied.
        seed: the recipe's; seed, epoch, step and rank decide what is varied how, so that a resumed run goes on alike.
        device: where the batches go.
        processes: who trains along; each takes every n-th row of a batch, for alike lengths.
    """

    examples: Examples
    augmentation: Augmentation
    seed: int
    device: torch.device
    processes: Processes

    def steps(self, planned: list[list[np.ndarray]], epoch: int, first: int) -> Iterator[list[Batch]]:
        """Yield the batches of each planned step from one on; a thread makes the next ones meanwhile."""
        with ThreadPoolExecutor(1, "batches") as thread:
            pending: deque[Future[list[Batch]]] = deque()
            for step in range(first, len(planned)):
                pending.append(thread.submit(self._step, planned[step], epoch, step))
                if len(pending) > _AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()

    def _step(self, batches: list[np.ndarray], epoch: int, step: int) -> list[Batch]:
        generator = np.random.default_rng((self.seed, epoch, step, self.processes.rank))
        rows = sum(len(indices) for indices in batches)
        return [self._batch(indices, rows, generator) for indices in batches]

    def _batch(self, indices: np.ndarray, rows: int, generator: np.random.Generator) -> Batch:
        own = indices[self.processes.rank :: self.processes.size]
        share = 1 / rows
        if not len(own):  # fewer rows than processes: one stands in, and does not count
            own, share = indices[:1], 0.0
        inputs, lengths = self.augmentation.batch(self.examples.sequences, own, generator)
        labels = self.examples.labels[own]
        return Batch(self._moved(inputs), self._moved(lengths), self._moved(labels), share, int(lengths.sum()))

    def _moved(self, array: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(array)
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor
