"""Measure a target in one scenario, or find the highest rate that it sustains."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from pipeline.bench.serving.client import Clients
from pipeline.bench.serving.measurement import Measurement, measurement
from pipeline.bench.serving.scenarios import Scenario, Server
from pipeline.bench.serving.targets import Target

Progress = Callable[[str], None]
_MOST_TRIALS = 20


def measure(
    target: Target,
    texts: Sequence[bytes],
    scenario: Scenario,
    *,
    expected: Sequence[str] | None = None,
    processes: int = 1,
    seed: int = 0,
) -> Measurement:
    """Ask a target with texts, as a scenario says, from a process of its own; a short warm-up goes before.

    Args:
        target: whom to ask.
        texts: what to ask with.
        scenario: when requests come.
        expected: the label of each text: any other answer, and any error, makes the measurement invalid.
        processes: clients that share a `Server`'s rate; in `Offline` each asks with all texts; else one asks.
        seed: of the schedule, and of which text comes when.

    Raises:
        UsageError: LoadGen is not installed, or what is asked for makes no sense.
        ServerError: the target cannot be reached, or leaves a request without any answer.
    """
    with Clients(target, texts, expected, processes) as clients:
        return measured(clients, scenario, seed)


def measured(clients: Clients, scenario: Scenario, seed: int = 0) -> Measurement:
    """As `measure`, with clients that are connected already."""
    ceiling = clients.ceiling_per_second(scenario)
    outcomes = clients.run(scenario, seed)
    return measurement(clients.target.name, scenario, outcomes, is_checked=clients.is_checked, ceiling=ceiling)


def answers(target: Target, texts: Sequence[bytes]) -> list[str]:
    """Return the label that a target gives each text alone: what `measure` may expect of it, and of others.

    Raises:
        ServerError: the target cannot be reached, or has no answer to a text.
    """
    with Clients(target, texts) as clients:
        return clients.answers()


def highest_rate(
    target: Target,
    texts: Sequence[bytes],
    *,
    p99_ms: float = 50.0,
    expected: Sequence[str] | None = None,
    processes: int = 1,
    seconds: float = 5.0,
    tolerance: float = 0.05,
    start: float | None = None,
    seed: int = 0,
    progress: Progress = lambda _: None,
) -> Measurement:
    """Find the highest rate of a Poisson stream at which 99 of 100 answers come within a bound, by bisection.

    Args:
        target: whom to ask.
        texts: what to ask with.
        p99_ms: the bound.
        expected: as in `measure`.
        processes: as in `measure`.
        seconds: of each trial.
        tolerance: how close, as a share of the rate, the highest sustained and the lowest failed rate end up.
        start: where to begin; by default the speed with 32 texts in flight.
        seed: of the schedule, and of which text comes when.
        progress: told of each trial.

    A rate is sustained when one of two trials is valid.

    Returns:
        The measurement at the highest rate that was sustained, with all `trials`; where none was, or an answer was
        wrong, one that is not valid.

    Raises:
        UsageError: as `measure`.
        ServerError: as `measure`.
    """
    with Clients(target, texts, expected, processes) as clients:
        return bisected(
            clients, p99_ms=p99_ms, seconds=seconds, tolerance=tolerance, start=start, seed=seed, progress=progress
        )


def bisected(
    clients: Clients,
    *,
    p99_ms: float,
    seconds: float,
    tolerance: float = 0.05,
    start: float | None = None,
    seed: int = 0,
    progress: Progress = lambda _: None,
) -> Measurement:
    """As `highest_rate`, with clients that are connected already."""
    trials: list[dict[str, Any]] = []

    def attempt(rate: float) -> Measurement:
        found = measured(clients, Server(rate, p99_ms, seconds), seed + len(trials))
        p99 = found.latency_ms["p99"]
        trials.append({"rate": rate, "p99_ms": p99, "is_valid": found.is_valid, "server": found.server})
        progress(f"{rate:,.1f}/s: p99 {p99:.1f} ms{'' if found.is_valid else ', not sustained'}")
        return found

    rate = start or clients.texts_per_second(Server(1, p99_ms))
    low, high = 0.0, math.inf
    while not trials or ((high == math.inf or high - low > tolerance * high) and len(trials) < _MOST_TRIALS):
        found = attempt(rate)
        if not (found.is_valid or _is_hopeless(found)):
            found = attempt(rate)  # what else the machine does may spoil one, and seldom two
        if _is_hopeless(found):
            return found.with_trials(trials)
        if found.is_valid:
            low, best = rate, found
        else:
            high, best = rate, best if low else found
        rate = low * 1.5 if high == math.inf else (low + high) / 2
    return best.with_trials(trials)


def _is_hopeless(found: Measurement) -> bool:
    """Tell whether no lower rate will mend it."""
    return bool(found.wrong) or found.errors == found.samples
