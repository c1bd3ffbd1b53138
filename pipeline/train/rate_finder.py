"""The learning-rate range test: one pass in which the rate rises until the loss breaks out.

Source: Smith 2017, Cyclical Learning Rates for Training Neural Networks.
"""

import math
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import torch

from pipeline.dataset import Dataset
from pipeline.recipe import Recipe
from pipeline.train.batches import Loader, plan
from pipeline.train.loop import Training, backward
from pipeline.train.precision import is_bfloat16
from pipeline.train.prepare import prepare_and_pretrain
from pipeline.train.processes import Processes
from pipeline.train.state import State

LOWEST, HIGHEST = 1e-5, 1.0
_MEMORY = 0.9  # of the loss's moving average
_BROKEN_OUT = 2.0  # times the least loss


@dataclass(frozen=True)
class Tried:
    """One step of the test: its rate, and the moving average of the loss after it."""

    rate: float
    loss: float


def find_rate(data: Path, recipe: Recipe, *, steps: int = 100) -> list[Tried]:
    """Train for some steps while the learning rate rises geometrically from 1e-5 to 1; stop when the loss breaks out.

    Args:
        data: a prepared data set.
        recipe: the model and how it is trained; its own rate and schedule are not used.
        steps: optimiser steps, at most.

    Raises:
        DataError: the data set is damaged.
    """
    prepared, keys = prepare_and_pretrain(Dataset(data), recipe), recipe.train
    state, cpu = State.fresh(prepared.model, keys), torch.device("cpu")
    training = Training(recipe, prepared.training, prepared.validation, prepared.augmentation)
    weights = training.class_weights(prepared.model.head.out_features)
    loader = Loader(training.examples, training.augmentation, keys.seed, cpu, Processes())
    batches = (
        step
        for epoch in count(1)
        for step in loader.steps(plan(training.examples.sequences.lengths, keys, epoch), epoch, 0)
    )
    prepared.model.train()
    tried: list[Tried] = []
    average = 0.0
    for number, rate in enumerate(np.geomspace(LOWEST, HIGHEST, steps)):
        state.optimizer.set_rate(float(rate), keys.epochs)
        state.optimizer.zero_grad()
        parts = [backward(state.model, one, weights, recipe, is_bf16=is_bfloat16(keys, cpu)) for one in next(batches)]
        state.optimizer.clip()
        state.optimizer.step()
        average = _MEMORY * average + (1 - _MEMORY) * float(torch.stack(parts).sum())
        loss = average / (1 - _MEMORY ** (number + 1))
        if not math.isfinite(loss) or loss > _BROKEN_OUT * min((one.loss for one in tried), default=math.inf):
            break
        tried.append(Tried(float(rate), loss))
    batches.close()
    return tried


def suggested_rate(tried: list[Tried]) -> float:
    """Return a tenth of the rate at which the loss was least: as fast as is still safe."""
    return min(tried, key=lambda one: one.loss).rate / 10
