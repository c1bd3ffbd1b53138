"""The training loop: a generator of events that neither prints nor saves."""

import copy
import math
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pipeline.errors import PipelineError
from pipeline.model.classifier import LSTMClassifier
from pipeline.model.scoring import logits_of
from pipeline.recipe import TrainKeys
from pipeline.sequences import Sequences, length_batches
from pipeline.tokenizer import PADDING_ID, UNKNOWN_ID
from pipeline.train.optimizer import make_optimizer


@dataclass(frozen=True)
class Examples:
    """Sequences and the class, (N,) int64, of each."""

    sequences: Sequences
    labels: np.ndarray


@dataclass(frozen=True)
class Step:
    """One optimiser step was taken."""

    epoch: int
    step: int
    steps: int
    loss: float


@dataclass(frozen=True)
class Epoch:
    """One pass over the training split is done.

    Attributes:
        epoch: from 1.
        train_loss: mean cross-entropy with dropout, in nats.
        validation_loss: mean cross-entropy, in nats.
        validation_accuracy: 0 to 1.
        gradient_norm: mean norm before clipping.
        clipped_share: share of the steps whose gradient was clipped.
        tokens_per_second: valid steps (padding left out) trained on, validation left out.
        seconds: the epoch's time, validation included.
        weights: the weights that were validated, if their loss is the lowest so far; None otherwise.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    validation_accuracy: float
    gradient_norm: float
    clipped_share: float
    tokens_per_second: float
    seconds: float
    weights: dict[str, torch.Tensor] | None = field(repr=False)

    @property
    def record(self) -> dict[str, Any]:
        """The epoch's figures, without the weights."""
        figures = {name: value for name, value in vars(self).items() if name != "weights"}
        return {**figures, "is_best": self.weights is not None}


@dataclass
class _Tally:
    """Sums over one epoch's steps."""

    loss: float = 0.0
    norm: float = 0.0
    clipped: int = 0
    steps: int = 0


def train_epochs(
    model: LSTMClassifier, training: Examples, validation: Examples, keys: TrainKeys
) -> Iterator[Step | Epoch]:
    """Train until the epochs are over or the validation loss has not fallen for `patience` of them.

    Yields a `Step` for each batch and an `Epoch` after each pass. The model holds the current weights while the
    generator runs and the best epoch's once it is exhausted.

    Raises:
        PipelineError: the loss is no longer a finite number.
    """
    optimizer = make_optimizer(model, keys)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(keys.ema_decay))  # type: ignore[no-untyped-call]
    averaged = cast(LSTMClassifier, average.module)
    generator = np.random.default_rng(keys.seed)
    best_loss, best_weights, best_epoch = math.inf, copy.deepcopy(model.state_dict()), 0
    for number in range(1, keys.epochs + 1):
        start = time.perf_counter()
        tally = yield from _train_epoch(model, average, optimizer, training, keys, generator, number)
        trained = time.perf_counter()
        loss, accuracy = _validate(averaged, validation)
        if not math.isfinite(loss):
            raise PipelineError(_diverged(f"validation loss {loss} after epoch {number}", keys))
        if loss < best_loss:
            best_loss, best_weights, best_epoch = loss, copy.deepcopy(averaged.state_dict()), number
        yield Epoch(
            epoch=number,
            train_loss=tally.loss / len(training.labels),
            validation_loss=loss,
            validation_accuracy=accuracy,
            gradient_norm=tally.norm / tally.steps,
            clipped_share=tally.clipped / tally.steps,
            tokens_per_second=int(training.sequences.offsets[-1]) / (trained - start),
            seconds=time.perf_counter() - start,
            weights=best_weights if number == best_epoch else None,
        )
        if number - best_epoch >= keys.patience:
            break
    model.load_state_dict(best_weights)


def _train_epoch(
    model: LSTMClassifier,
    average: AveragedModel,
    optimizer: torch.optim.Optimizer,
    training: Examples,
    keys: TrainKeys,
    generator: np.random.Generator,
    epoch: int,
) -> Generator[Step, None, _Tally]:
    model.train()
    device = next(model.parameters()).device
    tally = _Tally()
    steps = math.ceil(len(training.labels) / keys.batch_size)
    for indices in length_batches(training.sequences.lengths, keys.batch_size, generator):
        inputs, lengths = (torch.from_numpy(array).to(device) for array in training.sequences.padded(indices))
        labels = torch.from_numpy(training.labels[indices]).to(device)
        if keys.word_dropout and inputs.ndim == 2:
            is_dropped = torch.from_numpy(generator.random(inputs.shape) < keys.word_dropout).to(device)
            inputs[is_dropped & (inputs != PADDING_ID)] = UNKNOWN_ID
        objective = F.cross_entropy(model(inputs, lengths), labels)
        optimizer.zero_grad()
        objective.backward()  # type: ignore[no-untyped-call]
        norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), keys.clip_norm))
        loss = objective.item()
        tally.steps += 1
        if not math.isfinite(loss + norm):
            problem = f"loss {loss}, gradient norm {norm} in epoch {epoch}, step {tally.steps}"
            raise PipelineError(_diverged(problem, keys))
        optimizer.step()
        average.update_parameters(model)
        tally.loss += loss * len(indices)
        tally.norm += norm
        tally.clipped += norm > keys.clip_norm
        yield Step(epoch, tally.steps, steps, loss)
    return tally


def _validate(model: LSTMClassifier, validation: Examples) -> tuple[float, float]:
    """Return mean cross-entropy and accuracy."""
    logits, labels = logits_of(model, validation.sequences), torch.from_numpy(validation.labels)
    return F.cross_entropy(logits, labels).item(), (logits.argmax(1) == labels).float().mean().item()


def _diverged(problem: str, keys: TrainKeys) -> str:
    return (
        f"training diverged: {problem}. "
        f"Lower train.learning_rate (now {keys.learning_rate:g}) or train.clip_norm (now {keys.clip_norm:g})."
    )
