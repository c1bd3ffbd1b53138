"""What tuning came to: the configuration that was found, what it was held against, and every trial."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.tune.search import Result
from pipeline.tune.space import Candidate
from pipeline.tune.study import Trial

HOLDS_WITHIN = 0.15


@dataclass(frozen=True)
class Contender:
    """A candidate, and what was measured of it at the end, side by side with the others."""

    candidate: Candidate
    result: Result

    def as_json(self) -> dict[str, Any]:
        """Return it as ``tune.json`` holds it."""
        return {**asdict(self), "words": str(self.candidate)}


@dataclass(frozen=True)
class Tuned:
    """A finished search.

    Attributes:
        question: what was asked: models, texts, bounds, machine.
        grid: how many configurations there are.
        searched: trials of the search.
        predicted: how many times as good as the recipe's configuration the search measured what it found; None where
            that one may not be served.
        found: what it found.
        start: what the recipe says.
        random: the best of `drawn` random configurations; None if none were drawn.
        drawn: how many.
        trials: every trial, in order.
    """

    question: dict[str, Any]
    grid: int
    searched: int
    predicted: float | None
    found: Contender
    start: Contender
    random: Contender | None
    drawn: int
    trials: tuple[Trial, ...]

    def times(self, other: Contender) -> float | None:
        """Return how many times as good as another is what was found; None where that one may not be served."""
        return None if other.result.reason else self.found.result.value / other.result.value

    @property
    def difference(self) -> float | None:
        """By what share of the prediction what was found is better than predicted; None where there is none."""
        times = self.times(self.start)
        return times / self.predicted - 1 if times and self.predicted else None

    @property
    def holds(self) -> bool | None:
        """Whether the second run came within `HOLDS_WITHIN` of the prediction; None where there is none."""
        return None if self.difference is None else abs(self.difference) <= HOLDS_WITHIN

    @property
    def goal(self) -> str:
        """What was looked for, in words."""
        question = self.question
        rate, memory = question["rate"], question["max_memory_mb"]
        goal = "the highest rate" if rate is None else f"the lowest p99 at {rate:g} texts/s"
        within = f"within {memory:,g} MB" if memory is not None else "within any memory"
        return f"{goal}, p99 within {question['p99_ms']:g} ms, {within}"

    def as_json(self) -> dict[str, Any]:
        """Return it as ``tune.json`` holds it."""
        return {
            "format": 2,
            "question": self.question,
            "grid": self.grid,
            "searched": self.searched,
            "found": self.found.as_json(),
            "start": self.start.as_json(),
            "random": self.random and {"of": self.drawn, **self.random.as_json()},
            "times_start": self.times(self.start),
            "times_random": self.random and self.times(self.random),
            "predicted_times_start": self.predicted,
            "difference": self.difference,
            "holds": self.holds,
            "front": [asdict(candidate) for candidate, _ in front(self.trials)],
            "trials": [asdict(trial) for trial in self.trials],
        }


def longest(trials: Sequence[Trial]) -> dict[Candidate, Result]:
    """Return what the last trial of each candidate measured, which is its longest."""
    return {candidate: result for trial in trials for candidate, result in trial}


def front(trials: Sequence[Trial]) -> list[tuple[Candidate, Result]]:
    """Return the Pareto front: the allowed candidates that no other beats in value and memory, least memory first."""
    best, kept = 0.0, []
    faulty = {candidate for trial in trials for candidate, result in trial if result.reason}
    allowed = [(candidate, result) for candidate, result in longest(trials).items() if candidate not in faulty]
    for candidate, result in sorted(allowed, key=lambda one: (one[1].memory_mb or 0.0, -one[1].value)):
        if result.value > best:
            best = result.value
            kept.append((candidate, result))
    return kept
