"""The up-and-down method (Dixon and Mood 1948): where a bound is kept half of the time, from many short rounds.

A bisection trusts each answer: on a machine that has a bad second now and then it ends anywhere. Here each round moves
the level up after a round that kept the bound and down after one that did not, and the mean of the levels is the
estimate, so that no single round decides.
"""

from collections.abc import Sequence
from statistics import fmean
from typing import TypeVar

FIRST_STEP, LEAST_STEP = 1.2, 1.05  # the first becomes its root whenever the direction turns

One = TypeVar("One")


class Staircase:
    """Levels, each the one before it times a step or divided by it.

    Args:
        level: of the first round.
    """

    def __init__(self, level: float) -> None:
        self.level = level
        self._step = FIRST_STEP
        self._was_kept: bool | None = None
        self._levels: list[float] = []

    def told(self, is_kept: bool) -> None:
        """Take note of whether the round at `level` kept the bound, and move."""
        if self._was_kept is not None and is_kept != self._was_kept:
            self._step = max(LEAST_STEP, self._step**0.5)
        self._was_kept = is_kept
        self._levels.append(self.level)
        self.level *= self._step if is_kept else 1 / self._step

    @property
    def value(self) -> float:
        """The mean of the settled levels."""
        return fmean(settled(self._levels))


def settled(rounds: Sequence[One]) -> Sequence[One]:
    """Return the rounds without the first quarter, which lead to the level."""
    return rounds[len(rounds) // 4 :]
