"""The training loop: a generator of events that neither prints nor saves."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.errors import PipelineError
from pipeline.model import LSTMClassifier
from pipeline.model.scoring import logits_of
from pipeline.recipe import Recipe, TrainKeys
from pipeline.train.adversarial import adversarial_loss
from pipeline.train.augment import Augmentation
from pipeline.train.batches import Batch, Examples, Loader, plan
from pipeline.train.precision import autocast, is_bfloat16
from pipeline.train.processes import Processes
from pipeline.train.schedule import learning_rate
from pipeline.train.state import State, Tally, copied


@dataclass(frozen=True)
class Step:
    """One optimiser step was taken.

    Attributes:
        epoch: from 1.
        step: from 1 in each epoch.
        steps: how many the epoch has.
        loss: of its rows, as the recipe defines it.
        gradient_norm: before clipping.
        is_clipped: whether clipping changed the gradient.
        learning_rate: of the layers nearest to the answer.
    """

    epoch: int
    step: int
    steps: int
    loss: float
    gradient_norm: float
    is_clipped: bool
    learning_rate: float


@dataclass(frozen=True)
class Epoch:
    """One pass over the training split is done.

    Attributes:
        epoch: from 1.
        train_loss: mean over the steps, with dropout, in nats; label smoothing and class weights included.
        validation_loss: mean cross-entropy, in nats.
        validation_accuracy: 0 to 1.
        learning_rate: of the last step.
        gradient_norm: mean norm before clipping.
        clipped_share: share of the steps whose gradient was clipped, by norm or by value.
        tokens_per_second: valid steps (padding left out) trained on, validation left out.
        seconds: the epoch's time, validation included.
        weights: the weights that were validated, if they are the best so far; None otherwise.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    validation_accuracy: float
    learning_rate: float
    gradient_norm: float
    clipped_share: float
    tokens_per_second: float
    seconds: float
    weights: dict[str, Tensor] | None = field(repr=False)

    @property
    def record(self) -> dict[str, Any]:
        """The epoch's figures, without the weights."""
        figures = {name: value for name, value in vars(self).items() if name != "weights"}
        return {**figures, "is_best": self.weights is not None}


@dataclass(frozen=True)
class Training:
    """What stays the same in all steps.

    Attributes:
        recipe: its [train] and [adversarial] keys.
        examples: the training split.
        validation: the split that chooses the best epoch.
        augmentation: how the training split is varied.
        processes: who trains along.
    """

    recipe: Recipe
    examples: Examples
    validation: Examples
    augmentation: Augmentation
    processes: Processes = field(default_factory=Processes)

    def class_weights(self, classes: int) -> Tensor | None:
        """Return a weight, (C,), for each class, 1 on average over the rows, or None for equal ones."""
        power = {"none": 0.0, "square_root": 0.5, "balanced": 1.0}[self.recipe.train.class_weights]
        if not power:
            return None
        counts = np.maximum(np.bincount(self.examples.labels, minlength=classes), 1)
        weights = counts**-power
        return torch.tensor(weights * counts.sum() / (weights * counts).sum(), dtype=torch.float32)


def train_epochs(state: State, training: Training) -> Iterator[Step | Epoch]:
    """Train from where a state stands until the epochs are over or `patience` of them brought nothing better.

    Yields a `Step` for each step and an `Epoch` after each pass; between two events the state is whole and can be
    saved. The model holds the current weights while the generator runs and the best epoch's once it is exhausted.

    Raises:
        PipelineError: the loss is no longer a finite number, or another process is gone.
    """
    keys = training.recipe.train
    while state.epoch <= keys.epochs and (not state.history or len(state.history) - state.best_epoch < keys.patience):
        yield from _train_epoch(state, training)
        yield _end_epoch(state, training)
    state.model.load_state_dict(state.best)


def _train_epoch(state: State, training: Training) -> Iterator[Step]:
    keys, model = training.recipe.train, state.model.train()
    device = model.head.weight.device
    is_bf16 = is_bfloat16(keys, device)
    weights = training.class_weights(model.head.out_features)
    weights = None if weights is None else weights.to(device)
    planned = plan(training.examples.sequences.lengths, keys, state.epoch)
    loader = Loader(training.examples, training.augmentation, keys.seed, device, training.processes)
    losses = [record["validation_loss"] for record in state.history]
    start = time.perf_counter()
    for batches in loader.steps(planned, state.epoch, state.step):
        rate = learning_rate(keys, (state.epoch - 1 + state.step / len(planned)) / keys.epochs, losses)
        state.optimizer.set_rate(rate, state.epoch)
        _seed(keys.seed, state.epoch, state.step, training.processes.rank)
        state.optimizer.zero_grad()
        parts = [backward(model, batch, weights, training.recipe, is_bf16=is_bf16) for batch in batches]
        loss = _shared(torch.stack(parts).sum(), state, training.processes)
        norm, is_clipped = state.optimizer.clip()
        if not math.isfinite(loss + norm):
            place = f"loss {loss}, gradient norm {norm} in epoch {state.epoch}, step {state.step + 1}"
            raise PipelineError(_diverged(place, keys))
        state.optimizer.step()
        if state.average is not None and (keys.ema_decay or state.epoch >= keys.swa_from):
            state.average.update_parameters(model)
        now = time.perf_counter()
        step = Step(state.epoch, state.step + 1, len(planned), loss, norm, is_clipped, rate)
        _count(state.tally, step, batches, sum(map(len, planned[state.step])), now - start)
        start, state.step = now, state.step + 1
        yield step


def backward(model: LSTMClassifier, batch: Batch, weights: Tensor | None, recipe: Recipe, *, is_bf16: bool) -> Tensor:
    """Add a batch's gradients to the parameters'; return its part of the step's loss."""
    smoothing, adversary = recipe.train.label_smoothing, recipe.adversarial

    def criterion(logits: Tensor) -> Tensor:
        losses = F.cross_entropy(logits.float(), batch.labels, reduction="none", label_smoothing=smoothing)
        return (losses if weights is None else losses * weights[batch.labels]).sum() * batch.share

    steps = model.embedding(batch.inputs)
    if adversary.method not in {"none", "virtual"}:
        (steps.retain_grad if steps.requires_grad else steps.requires_grad_)()
    with autocast(steps.device, is_bfloat16=is_bf16):
        logits = model.forward_steps(steps, batch.lengths)
    loss = criterion(logits)
    loss.backward()  # type: ignore[no-untyped-call]
    if adversary.method != "none":
        # How far a small probe moves an answer is less than bfloat16 tells apart.
        with autocast(steps.device, is_bfloat16=is_bf16 and adversary.method != "virtual"):
            extra = adversarial_loss(model, batch.inputs, batch.lengths, steps, batch.share, criterion, adversary)
        (extra * adversary.weight).backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def _shared(loss: Tensor, state: State, processes: Processes) -> float:
    """Add up the gradients and the loss over all processes."""
    gradients = [parameter.grad for parameter in state.optimizer.parameters if parameter.grad is not None]
    if processes.size > 1:
        processes.sum([*gradients, loss])
    return loss.item()


def _count(tally: Tally, step: Step, batches: list[Batch], rows: int, seconds: float) -> None:
    tally.loss += step.loss * rows
    tally.rows += rows
    tally.tokens += sum(batch.tokens for batch in batches)
    tally.norm += step.gradient_norm
    tally.clipped += step.is_clipped
    tally.seconds += seconds
    tally.learning_rate = step.learning_rate


def _end_epoch(state: State, training: Training) -> Epoch:
    """Validate, keep the weights if they are the best, and turn to the next epoch."""
    keys, tally, start = training.recipe.train, state.tally, time.perf_counter()
    is_averaged = state.average is not None and (keys.ema_decay or state.epoch >= keys.swa_from)
    judged = state.average.module if state.average is not None and is_averaged else state.model
    assert isinstance(judged, LSTMClassifier)  # noqa: S101 - an average is of the model's own class
    for buffer in judged.buffers() if training.processes.size > 1 else ():
        training.processes.mean(buffer)
    loss, accuracy = _validate(judged, training)
    if not math.isfinite(loss):
        raise PipelineError(_diverged(f"validation loss {loss} after epoch {state.epoch}", keys))
    is_best = _is_best(state.history, loss, accuracy, keys.select)
    if is_best:
        state.best = copied(judged.state_dict())
    epoch = Epoch(
        epoch=state.epoch,
        train_loss=tally.loss / tally.rows,
        validation_loss=loss,
        validation_accuracy=accuracy,
        learning_rate=tally.learning_rate,
        gradient_norm=tally.norm / state.step,
        clipped_share=tally.clipped / state.step,
        tokens_per_second=tally.tokens * training.processes.size / tally.seconds,
        seconds=tally.seconds + time.perf_counter() - start,
        weights=state.best if is_best else None,
    )
    state.history.append(epoch.record)
    state.epoch, state.step, state.tally = state.epoch + 1, 0, Tally()
    return epoch


def _is_best(history: list[dict[str, Any]], loss: float, accuracy: float, select: str) -> bool:
    if select == "accuracy":
        best = max(((record["validation_accuracy"], -record["validation_loss"]) for record in history), default=None)
        return best is None or (accuracy, -loss) > best
    return all(loss < record["validation_loss"] for record in history)


def _validate(model: LSTMClassifier, training: Training) -> tuple[float, float]:
    """Return mean cross-entropy and accuracy; each process scores its share of the rows."""
    sequences, processes = training.validation.sequences, training.processes
    if processes.size == 1:
        logits = logits_of(model, sequences)  # as they lie there, perhaps mapped from a file larger than the memory
    else:
        own = np.arange(processes.rank, len(sequences), processes.size)
        together = torch.zeros(len(sequences), model.head.out_features)
        if len(own):
            together[torch.from_numpy(own)] = logits_of(model, sequences.take(own))
        together = together.to(model.head.weight.device)
        processes.sum([together])
        logits = together.cpu()
    labels = torch.from_numpy(training.validation.labels)
    return F.cross_entropy(logits, labels).item(), (logits.argmax(1) == labels).float().mean().item()


def _seed(*numbers: int) -> None:
    """Let dropout draw what seed, epoch, step and rank decide."""
    torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1)))


def _diverged(problem: str, keys: TrainKeys) -> str:
    return (
        f"training diverged: {problem}. "
        f"Lower train.learning_rate (now {keys.learning_rate:g}) or train.clip_norm (now {keys.clip_norm:g})."
    )
