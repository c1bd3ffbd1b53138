"""How long requests wait: a batching server under Poisson arrivals, played through request by request.

The server is Triton's dynamic batching without a delay: whenever an instance is free it takes all that waits, up to the
largest batch, and every row of a batch takes as long as its longest. No formula for the tail of such a queue is exact,
so the queue itself is run, always with the same arrivals, scaled to the rate: equal questions get equal answers, and a
longer bound on p99 never a lower rate.

Approximations: a call takes as long as the cost model says, without jitter; the network and the client take nothing.
"""

import bisect
import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

REQUESTS = 10_000
_WARM_UP = REQUESTS // 10
_HALVINGS = 12  # down to a rate at which nothing waits
_BISECTIONS = 7  # to a half per cent


@dataclass(frozen=True)
class Station:
    """What answers on one machine.

    Attributes:
        instances: sessions that work at once and take from one queue.
        largest_batch: rows in a call, at most.
        seconds: of a call, from its rows and the tokens of its longest.
    """

    instances: int
    largest_batch: int
    seconds: Callable[[int, int], float]


@dataclass(frozen=True)
class Waiting:
    """What requests see: seconds from arrival to answer, rows of a mean batch, share of the instances' time in use."""

    p50: float
    p99: float
    batch: float
    busy: float


def simulate(station: Station, rate: float, lengths: Sequence[int]) -> Waiting:
    """Return what `REQUESTS` requests a Poisson process sends at a rate (a second) see; the first tenth not counted.

    Args:
        station: what answers.
        rate: requests a second, each of one text.
        lengths: tokens of the texts, equally likely.
    """
    arrivals, tokens = _requests(lengths)
    arrivals = [at / rate for at in arrivals]
    free = [0.0] * station.instances
    latencies: list[float] = []
    first = batches = 0
    working = 0.0
    while first < REQUESTS:
        start = max(heapq.heappop(free), arrivals[first])
        last = min(bisect.bisect_right(arrivals, start, first), first + station.largest_batch)
        seconds = station.seconds(last - first, max(tokens[first:last]))
        heapq.heappush(free, start + seconds)
        latencies += [start + seconds - at for at in arrivals[first:last]]
        first, batches, working = last, batches + 1, working + seconds
    p50, p99 = np.quantile(latencies[_WARM_UP:], [0.5, 0.99]).tolist()
    return Waiting(p50, p99, REQUESTS / batches, working / (station.instances * max(free)))


def rate_at_limit(station: Station, lengths: Sequence[int]) -> float:
    """Return the requests a second when every batch is full: above it the queue only grows."""
    _, tokens = _requests(lengths)
    B = min(station.largest_batch, REQUESTS)
    longest = [max(tokens[first : first + B]) for first in range(0, REQUESTS - B + 1, B)]
    return station.instances * B / float(np.mean([station.seconds(B, T) for T in longest]))


def highest_rate(station: Station, p99: float, lengths: Sequence[int]) -> float:
    """Return the highest rate at which 99 of 100 requests are answered within so many seconds; 0 if none is.

    The limit is halved until it will do, then the last halving is bisected: a longer bound never finds a lower rate.
    """
    limit = rate_at_limit(station, lengths)
    for halvings in range(_HALVINGS):
        low = limit * 0.5**halvings
        if simulate(station, low, lengths).p99 <= p99:
            break
    else:
        return 0.0
    high = min(2 * low, limit)
    for _ in range(_BISECTIONS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if simulate(station, middle, lengths).p99 <= p99 else (low, middle)
    return low


def _requests(lengths: Sequence[int]) -> tuple[list[float], list[int]]:
    """Return when requests arrive at a rate of one a second, and their tokens; always the same ones."""
    generator = np.random.default_rng(0)
    arrivals = np.cumsum(generator.exponential(size=REQUESTS))
    return arrivals.tolist(), generator.choice(np.asarray(lengths), REQUESTS).tolist()
