"""The search: a coarse grid in short trials, the best third of it in longer ones, then steps along each axis.

It is a function of what the trials measure and of nothing else: one that was cut short is gone on with by asking for
the same trials again, of which those that were made answer at once.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from statistics import fmean
from typing import Literal

from pipeline.errors import CheckFailed
from pipeline.tune.space import Candidate, Space

KEPT = 3  # one in so many of the coarse grid is measured longer, and so many finalists are measured again
AGAIN = 2  # how often
LEAST_TRIALS = 3

Length = Literal["short", "long", "confirm"]


@dataclass(frozen=True)
class Result:
    """What one trial measured.

    Attributes:
        value: what is to be as large as possible: the highest rate within the latency bound or, where a rate was
            given, one over the p99 in seconds at that rate.
        rate: samples per second.
        p99_ms: at that rate, from the scheduled time; None if it was not measured, as the memory.
        memory_mb: what Triton and its stubs held after it.
        reason: why the candidate may not be chosen; empty where it may.
        missed: how many times the bound it came to, of the bound it is farthest from; None if it did not answer well.
    """

    value: float
    rate: float
    p99_ms: float | None
    memory_mb: float | None
    reason: str = ""
    missed: float | None = None

    @property
    def rank(self) -> tuple[bool, float, float]:
        """What is larger for the better one; of two that may not be chosen, the one nearer to the bounds."""
        if not self.reason:
            return True, 0.0, self.value
        return False, -math.inf if self.missed is None else -self.missed, self.value


Measure = Callable[[Candidate, Length, int], Result]
"""Measures a candidate, so long, for the first time (0) or again (1, 2 …)."""


@dataclass(frozen=True)
class Found:
    """What a search came to.

    Attributes:
        candidate: the best one.
        predicted: the mean value of the trials after the one that it was chosen for, which promises too much.
    """

    candidate: Candidate
    predicted: float | None


def search(space: Space, budget: int, measure: Measure) -> Found:
    """Find the candidate of the largest value, in at most so many trials.

    Args:
        space: what there is to choose from.
        budget: trials, at least `LEAST_TRIALS`.
        measure: makes one.

    Raises:
        CheckFailed: nothing that was tried may be chosen.
    """
    trials = _Trials(measure, budget)
    reserve = max(1, min(KEPT * AGAIN, budget // 4))
    coarse = trials.short(space.coarse()[: max(1, (budget - reserve) // 2)])
    for candidate in coarse[: max(1, len(coarse) // KEPT)]:
        trials.long(candidate)
    while trials.left > reserve and (step := trials.next_step(space)):
        trials.long(step)
    return trials.best()


@dataclass
class _Trials:
    """The long trials that were made, how many of any length are left, and what any of them found at fault."""

    make: Measure
    left: int
    made: dict[Candidate, list[Result]] = field(default_factory=dict)
    faults: dict[Candidate, str] = field(default_factory=dict)

    def short(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        """Measure some for a short time, and return them best first."""
        results = {candidate: self._made(candidate, "short", 0) for candidate in candidates}
        return sorted(results, key=lambda candidate: results[candidate].rank, reverse=True)

    def long(self, candidate: Candidate) -> None:
        """Measure one for a long time, the first time or again."""
        results = self.made.setdefault(candidate, [])
        results.append(self._made(candidate, "long", len(results)))

    def ranked(self) -> list[Candidate]:
        """Return those that were measured, best first; behind them what was ever at fault, in a short trial, too."""
        return sorted(self.made, key=lambda one: (one not in self.faults, self.made[one][0].rank), reverse=True)

    def next_step(self, space: Space) -> Candidate | None:
        """Return a point that was not measured, beside the best one that has such a neighbour."""
        steps = (point for candidate in self.ranked() for point in space.neighbours(candidate))
        return next((point for point in steps if point not in self.made), None)

    def best(self) -> Found:
        """Measure the finalists again, in turn, and return the one that is the best then."""
        finalists = self.ranked()[: min(KEPT, self.left)]
        for _ in range(min(AGAIN, self.left // len(finalists))):
            for candidate in finalists:
                self.long(candidate)
        allowed = [one for one in finalists if one not in self.faults]
        if not allowed:
            nearest = finalists[0]
            raise CheckFailed(f"nothing that was tried may be served; the nearest, {nearest}: {self.faults[nearest]}.")
        means = {candidate: fmean(result.value for result in self.made[candidate][1:]) for candidate in allowed}
        best = max(means, key=means.__getitem__)
        return Found(best, means[best])

    def _made(self, candidate: Candidate, length: Length, turn: int) -> Result:
        result = self.make(candidate, length, turn)
        self.left -= 1
        if result.reason:
            self.faults.setdefault(candidate, result.reason)
        return result
