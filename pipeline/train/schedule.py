"""The learning rate as a pure function of how far training is, so that a resumed run needs no state for it."""

import math
from collections.abc import Sequence

from pipeline.recipe import TrainKeys

ONE_CYCLE_START = 1 / 25
ONE_CYCLE_RISE = 0.3
PLATEAU_FACTOR = 0.5


def learning_rate(keys: TrainKeys, progress: float, validation_losses: Sequence[float] = ()) -> float:
    """Return the learning rate of a step.

    Args:
        keys: the recipe's.
        progress: share of all steps that were taken before, 0 to 1.
        validation_losses: of the epochs so far; `plateau` halves the rate after each that was not the best yet.

    Source: one cycle: Smith and Topin 2018, Super-Convergence; cosine: Loshchilov and Hutter 2017, SGDR, without
        restarts.
    """
    warmup = keys.warmup or (ONE_CYCLE_RISE if keys.schedule == "one_cycle" else 0.0)
    if progress < warmup:
        return keys.learning_rate * _rise(keys.schedule, progress / warmup)
    rest = (progress - warmup) / (1 - warmup) if warmup < 1 else 0.0
    return keys.learning_rate * _after_warmup(keys.schedule, rest, validation_losses)


def _rise(schedule: str, share: float) -> float:
    if schedule == "one_cycle":
        return ONE_CYCLE_START + (1 - ONE_CYCLE_START) * _falling_cosine(1 - share)
    return share


def _after_warmup(schedule: str, share: float, validation_losses: Sequence[float]) -> float:
    if schedule == "linear":
        return 1 - share
    if schedule in {"cosine", "one_cycle"}:
        return _falling_cosine(share)
    if schedule == "plateau":
        worse = sum(
            not loss < min(validation_losses[:number]) for number, loss in enumerate(validation_losses) if number
        )
        return PLATEAU_FACTOR**worse
    return 1.0


def _falling_cosine(share: float) -> float:
    """Fall from 1 at share 0 to 0 at share 1."""
    return (1 + math.cos(math.pi * share)) / 2
