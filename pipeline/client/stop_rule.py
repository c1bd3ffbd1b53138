"""When a candidate is asked no more: its rate of failures, or of other labels, is above a limit beyond chance."""

import math
from dataclasses import dataclass

from pipeline.errors import UsageError

GROWTH = 1.1  # a rate is looked at again when a tenth more has been seen


@dataclass(frozen=True)
class StopRule:
    """What is asked of a candidate.

    Attributes:
        disagreements: the part of rows that may have another label than production's; only a shadow can tell.
        failures: the part of requests that may fail.
        confidence: the least probability that a candidate within both limits is never stopped, however long it runs.

    Raises:
        UsageError: one is not between 0 and 1.
    """

    disagreements: float = 0.05
    failures: float = 0.02
    confidence: float = 0.95

    def __post_init__(self) -> None:
        for name in ("disagreements", "failures", "confidence"):
            if not 0 < getattr(self, name) < 1:
                raise UsageError(f"{name} of the stop rule: wanted between 0 and 1, got {getattr(self, name)}.")


class RateTest:
    """Is a rate above its limit? Asked while the counts grow, and right at any time.

    Each look is an exact binomial test, which is to say that the lower Clopper-Pearson bound of the rate is above the
    limit. Look k spends 1 / (k (k + 1)) of the error probability, and these add up to 1: so many looks deceive nobody,
    if when one looks depends on the number of trials alone.

    Source: Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial"
    (Biometrika 26, 1934); the union bound over the looks.
    """

    def __init__(self, limit: float, error_probability: float) -> None:
        self.limit = limit
        self._error_probability = error_probability
        self._looks, self._next_look = 0, 1

    def is_exceeded(self, events: int, trials: int) -> bool:
        """Look, if enough is new since the last look."""
        if trials < self._next_look:
            return False
        self._looks += 1
        self._next_look = max(trials + 1, math.ceil(trials * GROWTH))
        return upper_tail(events, trials, self.limit) < self._error_probability / (self._looks * (self._looks + 1))


def upper_tail(events: int, trials: int, rate: float) -> float:
    """Return the probability of so many events or more, when each trial has this rate; 1 where that is no wonder."""
    if events <= trials * rate:
        return 1.0
    ways = math.lgamma(trials + 1) - math.lgamma(events + 1) - math.lgamma(trials - events + 1)
    term = total = math.exp(ways + events * math.log(rate) + (trials - events) * math.log1p(-rate))
    for count in range(events, trials):  # beyond the mean each term is smaller than the one before
        term *= (trials - count) / (count + 1) * rate / (1 - rate)
        total += term
        if term < total * 1e-12:
            break
    return total
