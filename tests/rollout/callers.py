"""Callers who ask without a pause, and what each was answered when."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event as Flag
from threading import Thread

import numpy as np

from pipeline.client import Access, Client
from pipeline.errors import PipelineError
from pipeline.repository.goldens import Golden, Goldens
from tests.serve.asking import eventually

CALLERS = 8


@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        row: which golden row was asked.
        label: the answer, as for the probabilities (C,).
        begun: when it was asked, in seconds of the monotonic clock, and `ended` when it came.
    """

    row: int
    label: str
    probabilities: tuple[float, ...]
    begun: float
    ended: float

    def is_of(self, golden: Golden, tolerance: float) -> bool:
        distance = np.abs(np.subtract(self.probabilities, golden.probabilities)).max()
        return bool(self.label == golden.label and distance <= tolerance)


@dataclass
class Calls:
    """What all callers were answered, and what they were refused."""

    answers: list[Answer] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def longest(self) -> float:
        """The seconds of the slowest answer."""
        return max(answer.ended - answer.begun for answer in self.answers)

    def wrong(self, versions: "dict[int, Goldens]", live: "Timeline") -> list[Answer]:
        """Return the answers of no version that could be live while they were asked."""
        return [
            answer
            for answer in self.answers
            if not any(
                answer.is_of(versions[number].rows[answer.row], versions[number].tolerance)
                for number in live.between(answer.begun, answer.ended)
            )
        ]


@dataclass
class Timeline:
    """Which versions could answer when: a change's old one until it is done, its new one since it began."""

    spans: list[tuple[int, float, float]]

    @classmethod
    def beginning_with(cls, version: int) -> "Timeline":
        return cls([(version, 0.0, np.inf)])

    @contextmanager
    def change_to(self, version: int) -> Iterator[None]:
        """Note a change for the length of a ``with`` block."""
        old, since, _ = self.spans[-1]
        self.spans.append((version, time.monotonic(), np.inf))
        yield
        self.spans[-2] = (old, since, time.monotonic())

    def between(self, begun: float, ended: float) -> set[int]:
        return {version for version, since, until in self.spans if since <= ended and begun <= until}


@contextmanager
def calling(url: str, access: Access, version: Path, count: int = CALLERS) -> Iterator[Calls]:
    """Let callers ask a model the golden rows of a version, each alone and once, for the length of a ``with`` block."""
    rows = [golden.row for golden in Goldens.load(version).rows]
    calls, stop = Calls(), Flag()

    def call(number: int) -> None:
        with Client(url, version.parent.name, access=access, timeout_seconds=30, retries=0) as client:
            while not stop.is_set():
                number = (number + 1) % len(rows)
                begun = time.monotonic()
                try:
                    (got,) = client.classify([rows[number]])
                except PipelineError as error:
                    calls.failures.append(str(error))
                else:
                    probabilities = tuple(got.probabilities.values())
                    calls.answers.append(Answer(number, got.label, probabilities, begun, time.monotonic()))

    threads = [Thread(target=call, args=(7 * number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield calls
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def more(calls: Calls) -> None:
    """Wait until every caller has been answered again."""
    wanted = len(calls.answers) + 2 * CALLERS
    eventually(lambda: len(calls.answers) > wanted, 30)
