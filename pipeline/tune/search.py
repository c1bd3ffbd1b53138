"""The search: a coarse grid in short trials, the best third of it in longer ones, then steps along each axis.

The best of them are measured side by side, with the recipe's own configuration among them, so that what the machine
does meanwhile meets all alike: the ratio to the recipe's is what is predicted.

It is a function of what the trials measure and of nothing else: one that was cut short is gone on with by asking for
the same trials again, of which those that were made answer at once.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pipeline.errors import CheckFailed
from pipeline.tune.space import Candidate, Space

KEPT = 3  # one in so many of the coarse grid is measured longer, and so many finalists side by side
LEAST_TRIALS = 3

Kind = Literal["short", "long", "final", "confirm"]
"""A short or a long trial of one candidate; the finalists side by side; what was found, side by side with others."""


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

    @classmethod
    def unfit(cls, reason: str) -> "Result":
        """Return that of a candidate that was not measured."""
        return cls(0.0, 0.0, None, None, reason)

    @property
    def rank(self) -> tuple[bool, float, float]:
        """What is larger for the better one; of two that may not be chosen, the one nearer to the bounds."""
        if not self.reason:
            return True, 0.0, self.value
        return False, -math.inf if self.missed is None else -self.missed, self.value


Measure = Callable[[Kind, Sequence[Candidate]], Sequence[Result]]
"""Measures candidates side by side; of a short or long trial there is one."""


@dataclass(frozen=True)
class Found:
    """What a search came to.

    Attributes:
        candidate: the best one.
        times: its value over that of the recipe's configuration, which is predicted to last; None where that one may
            not be served.
    """

    candidate: Candidate
    times: float | None


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
    reserve = max(2, min(KEPT + 1, budget // 4))
    coarse = trials.short(space.coarse()[: max(1, (budget - reserve) // 2)])
    for candidate in coarse[: max(1, len(coarse) // KEPT)]:
        trials.long(candidate)
    while trials.left > reserve and (step := trials.next_step(space)):
        trials.long(step)
    return trials.best(space.start)


@dataclass
class _Trials:
    """The long trials that were made, how many of any kind are left, and what any of them found at fault."""

    measure: Measure
    left: int
    made: dict[Candidate, Result] = field(default_factory=dict)
    faults: dict[Candidate, str] = field(default_factory=dict)

    def short(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        """Measure some for a short time, and return them best first."""
        results = {candidate: self._measured("short", [candidate])[candidate] for candidate in candidates}
        return sorted(results, key=lambda candidate: results[candidate].rank, reverse=True)

    def long(self, candidate: Candidate) -> None:
        """Measure one for a long time."""
        self.made |= self._measured("long", [candidate])

    def ranked(self) -> list[Candidate]:
        """Return those that were measured, best first; behind them what was ever at fault, in a short trial, too."""
        return sorted(self.made, key=lambda one: (one not in self.faults, self.made[one].rank), reverse=True)

    def next_step(self, space: Space) -> Candidate | None:
        """Return a point that was not measured, beside the best one that has such a neighbour."""
        steps = (point for candidate in self.ranked() for point in space.neighbours(candidate))
        return next((point for point in steps if point not in self.made), None)

    def best(self, start: Candidate) -> Found:
        """Measure the finalists and the start side by side, and return the one that is the best then."""
        finalists = self.ranked()[: max(1, min(KEPT, self.left - 1))]
        results = self._measured("final", dict.fromkeys([start, *finalists]))
        allowed = [one for one in finalists if one not in self.faults]
        if not allowed:
            nearest = finalists[0]
            raise CheckFailed(f"nothing that was tried may be served; the nearest, {nearest}: {self.faults[nearest]}.")
        best = max(allowed, key=lambda one: results[one].value)
        return Found(best, None if results[start].reason else results[best].value / results[start].value)

    def _measured(self, kind: Kind, candidates: Iterable[Candidate]) -> dict[Candidate, Result]:
        results = dict(zip(candidates, self.measure(kind, tuple(candidates)), strict=True))
        self.left -= len(results)
        for candidate, result in results.items():
            if result.reason:
                self.faults.setdefault(candidate, result.reason)
        return results
