"""Time calls of ONNX Runtime, each of many sessions and requests in turn, so that a slow minute touches all alike."""

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.bench.grown import RUN, Subject
from pipeline.capacity import Call
from pipeline.runtime import CPU, open_session

Progress = Callable[[str], None]
LARGEST_CALL, LARGEST_GROWN_CALL = 2**14, 2**11  # rows × tokens
_CROWDED_CALLS = 4


@dataclass(frozen=True)
class Timed:
    """A call of a model with so many threads, and its seconds in each round."""

    subject: Subject
    threads: int
    call: Call
    seconds: list[float]

    @property
    def best(self) -> float:
        """The seconds that count: what else a machine does only ever adds."""
        return min(self.seconds)


def time_calls(
    subjects: Sequence[Subject],
    grid: Sequence[tuple[int, int]],
    threads: Sequence[int],
    provider: str,
    rounds: int,
    progress: Progress,
) -> list[Timed]:
    """Return every call of the grid, (B, T), that is not too large, of every model and number of threads.

    Calls of one thread on a CPU are timed in processor time, in which no other process takes part, others by the clock.
    """
    groups: list[tuple[Any, list[tuple[Timed, dict[str, np.ndarray]]]]] = []
    for subject in subjects:
        largest = LARGEST_CALL if subject.name == RUN else LARGEST_GROWN_CALL
        requests = [subject.request(B, T) for B, T in grid if largest >= B * T]
        for count in threads:
            cells = [(Timed(subject, count, call, []), feed) for call, feed in requests]
            groups.append((open_session(subject.content, provider, count), cells))
    for number in range(rounds + 1):
        progress(f"round {number} of {rounds}" if number else "warm-up")
        for session, cells in groups:
            session.run(None, cells[0][1])  # the weights of the session before are still in the cache
            for one, feed in cells:
                clock = time.thread_time if one.threads == 1 and provider == CPU else time.perf_counter
                start = clock()
                session.run(None, feed)
                if number:
                    one.seconds.append(clock() - start)
    return [one for _, cells in groups for one, _ in cells]


def crowding(subject: Subject, cores: int, rounds: int) -> float:
    """Return how much more processor time a call takes while every core makes one; the best of some rounds each."""
    sessions = [open_session(subject.content, threads=1) for _ in range(cores)]
    _, feed = subject.request(16, 16)

    def seconds(session: Any) -> float:
        start = time.thread_time()
        for _ in range(_CROWDED_CALLS):
            session.run(None, feed)
        return time.thread_time() - start

    alone, together = [], []
    with ThreadPoolExecutor(cores) as pool:
        for _ in range(rounds):
            alone.append(seconds(sessions[0]))
            together.append(statistics.mean(pool.map(seconds, sessions)))
    return max(1.0, min(together) / min(alone))
