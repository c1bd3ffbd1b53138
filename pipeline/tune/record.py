"""What tuning came to: the configuration that was found, what it was held against, and every trial."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from pipeline.tune.search import Result
from pipeline.tune.space import Candidate
from pipeline.tune.study import Trial

HOLDS_WITHIN = 0.15


@dataclass(frozen=True)
class Contender:
    """A candidate that was measured again at the end, in turn with the others.

    Attributes:
        candidate: which.
        predicted: the mean value of its earlier long trials; None if it had none.
        confirmed: what the last, longer trials measured.
    """

    candidate: Candidate
    predicted: float | None
    confirmed: tuple[Result, ...]

    @property
    def value(self) -> float:
        """The mean of the confirmed values."""
        return fmean(result.value for result in self.confirmed)

    @property
    def reason(self) -> str:
        """Why it may not be served after all; empty where it may."""
        return next((result.reason for result in self.confirmed if result.reason), "")

    @property
    def difference(self) -> float | None:
        """By what share of the prediction the confirmed value is larger."""
        return self.value / self.predicted - 1 if self.predicted else None

    def as_json(self) -> dict[str, Any]:
        """Return it as ``tune.json`` holds it."""
        derived = {"words": str(self.candidate), "value": self.value, "difference": self.difference}
        return {**asdict(self), **derived}


@dataclass(frozen=True)
class Tuned:
    """A finished search.

    Attributes:
        question: what was asked: models, texts, bounds, machine.
        grid: how many configurations there are.
        searched: trials of the search.
        found: what it found.
        start: what the recipe says.
        random: the best of `drawn` random configurations; None if none were drawn.
        drawn: how many.
        trials: every trial, in order.
    """

    question: dict[str, Any]
    grid: int
    searched: int
    found: Contender
    start: Contender
    random: Contender | None
    drawn: int
    trials: tuple[Trial, ...]

    @property
    def holds(self) -> bool:
        """Whether the second run came within `HOLDS_WITHIN` of the prediction."""
        difference = self.found.difference
        return difference is not None and abs(difference) <= HOLDS_WITHIN

    def times(self, other: Contender) -> float | None:
        """Return how often what was found is as good as another; None where that one may not be served."""
        return None if other.reason else self.found.value / other.value

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
            "format": 1,
            "question": self.question,
            "grid": self.grid,
            "searched": self.searched,
            "found": self.found.as_json(),
            "holds": self.holds,
            "start": self.start.as_json(),
            "random": self.random and {"of": self.drawn, **self.random.as_json()},
            "front": [asdict(trial.candidate) for trial in front(self.trials)],
            "trials": [asdict(trial) for trial in self.trials],
        }


def longest(trials: Sequence[Trial]) -> list[Trial]:
    """Return the last trial of each candidate, which is its longest."""
    return list({trial.candidate: trial for trial in trials}.values())


def front(trials: Sequence[Trial]) -> list[Trial]:
    """Return the Pareto front: the allowed candidates that no other beats in value and memory, least memory first."""
    best, kept = 0.0, []
    faulty = {trial.candidate for trial in trials if trial.result.reason}
    allowed = [trial for trial in longest(trials) if trial.candidate not in faulty]
    for trial in sorted(allowed, key=lambda trial: (trial.result.memory_mb or 0.0, -trial.result.value)):
        if trial.result.value > best:
            best = trial.result.value
            kept.append(trial)
    return kept
