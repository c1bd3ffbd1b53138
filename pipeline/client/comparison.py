"""What a candidate does beside production: counts, times and labels, and whether it is to be asked on."""

import logging
from collections import Counter, deque
from dataclasses import dataclass
from threading import Lock

import numpy as np

from pipeline.client.prediction import Prediction
from pipeline.client.stop_rule import RateTest, StopRule

REMEMBERED = 10_000  # requests whose seconds are kept, of each side

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Comparison:
    """What has been seen of a candidate so far.

    Attributes:
        requests: how many the candidate was asked.
        failures: how many of them it failed.
        skipped: shadow requests that were not sent, because the candidate was behind.
        rows: how many rows both have answered; 0 for a canary, where each row is answered by one.
        disagreements: in how many of those the labels, or what is valid, differ.
        production_labels: how often production gave each label.
        candidate_labels: how often the candidate did.
        production_ms: the median and the 99th percentile of a request's time; none before the first.
        candidate_ms: the same of the candidate.
        stopped: why the candidate is asked no more; empty while it is.
    """

    requests: int
    failures: int
    skipped: int
    rows: int
    disagreements: int
    production_labels: dict[str, int]
    candidate_labels: dict[str, int]
    production_ms: tuple[float, float] | None
    candidate_ms: tuple[float, float] | None
    stopped: str

    def __str__(self) -> str:
        """Return it as a line for a person."""
        parts = [f"candidate: {self.requests:,} request(s), {self.failures:,} failed"]
        if self.rows:
            share = self.disagreements / self.rows
            parts.append(f"{self.disagreements:,} of {self.rows:,} label(s) differ ({share:.2%})")
        if self.skipped:
            parts.append(f"{self.skipped:,} not sent, it was behind")
        for name, times in (("production", self.production_ms), ("candidate", self.candidate_ms)):
            if times:
                parts.append(f"{name} median {times[0]:.1f} ms, 99 % within {times[1]:.1f} ms")
        return "; ".join(parts) + f". {'Stopped: ' + self.stopped if self.stopped else 'Not stopped'}."


class Record:
    """What a `Split` has seen, for its threads to share, and the stop rule's verdict on it.

    Attributes:
        stopped: why the candidate is asked no more; empty while it is.
    """

    def __init__(self, rule: StopRule) -> None:
        self.stopped = ""
        self._lock = Lock()
        self._requests = self._failures = self._skipped = self._rows = self._disagreements = 0
        self._production, self._candidate = _Side(), _Side()
        error_probability = (1 - rule.confidence) / 2
        self._failures_test = RateTest(rule.failures, error_probability)
        self._disagreements_test = RateTest(rule.disagreements, error_probability)

    def answered_by_production(self, seconds: float, predictions: list[Prediction]) -> None:
        """Add an answer of production's."""
        with self._lock:
            self._production.add(seconds, predictions)

    def answered_by_candidate(self, seconds: float, predictions: list[Prediction]) -> None:
        """Add an answer of the candidate's."""
        with self._lock:
            self._candidate.add(seconds, predictions)
            self._count("")

    def failed(self, reason: str) -> None:
        """Add a request that the candidate failed."""
        with self._lock:
            self._failures += 1
            self._count(f"; the last: {reason.rstrip('.')}")

    def compared(self, expected: list[Prediction], predictions: list[Prediction]) -> None:
        """Add rows that both have answered."""
        disagreements = sum(map(_differ, expected, predictions))
        with self._lock:
            self._rows += len(expected)
            self._disagreements += disagreements
            if self._disagreements_test.is_exceeded(self._disagreements, self._rows):
                share = f"{self._disagreements:,} of {self._rows:,} label(s) differ"
                self._stop(f"{share}, {self._disagreements_test.limit:.1%} may")

    def skipped(self) -> None:
        """Add a shadow that was not cast."""
        with self._lock:
            self._skipped += 1

    def comparison(self) -> Comparison:
        """Return the counts as they are now."""
        with self._lock:
            return Comparison(
                requests=self._requests,
                failures=self._failures,
                skipped=self._skipped,
                rows=self._rows,
                disagreements=self._disagreements,
                production_labels=dict(self._production.labels),
                candidate_labels=dict(self._candidate.labels),
                production_ms=self._production.milliseconds(),
                candidate_ms=self._candidate.milliseconds(),
                stopped=self.stopped,
            )

    def _count(self, last_failure: str) -> None:
        """Count a request of the candidate's; looks depend on that count alone, never on how one ended."""
        self._requests += 1
        if self._failures_test.is_exceeded(self._failures, self._requests):
            share = f"{self._failures:,} of {self._requests:,} request(s) failed"
            self._stop(f"{share}, {self._failures_test.limit:.1%} may{last_failure}")

    def _stop(self, reason: str) -> None:
        if not self.stopped:
            self.stopped = reason
            _logger.warning("candidate stopped: %s.", reason)


class _Side:
    """What one of the two has answered."""

    def __init__(self) -> None:
        self.labels: Counter[str] = Counter()
        self._seconds: deque[float] = deque(maxlen=REMEMBERED)

    def add(self, seconds: float, predictions: list[Prediction]) -> None:
        self._seconds.append(seconds)
        self.labels.update(prediction.label for prediction in predictions if prediction.valid)

    def milliseconds(self) -> tuple[float, float] | None:
        if not self._seconds:
            return None
        median, late = np.percentile(self._seconds, [50, 99]) * 1000
        return float(median), float(late)


def _differ(one: Prediction, other: Prediction) -> bool:
    """Return whether two say different things of a row; of one that is not valid, the label says nothing."""
    return one.valid != other.valid or (one.valid and one.label != other.label)
