"""Targets whose speed and faults are known, because they were planted."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from queue import SimpleQueue

from pipeline.bench.serving.targets import Connection, Done, Labels


class Echo(Connection):
    """Answers at once, in the caller's thread, with the texts themselves."""

    batch_size = 16

    def encode(self, texts: Sequence[bytes]) -> Labels:
        return [text.decode() for text in texts]

    def ask(self, request: Labels, done: Done) -> None:
        done(request)

    def close(self) -> None:
        pass


class Faulty(Echo):
    """Raises for one text, hands back an error for another, and too few labels for a third."""

    def ask(self, request: Labels, done: Done) -> None:
        if request == ["0"]:
            raise ValueError("planted")
        done(RuntimeError("planted too") if request == ["1"] else [] if request == ["2"] else request)


class Stalling(Echo):
    """Keeps the caller waiting once, at its hundredth request after `arm`."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._left = seconds, 0

    def arm(self) -> None:
        self._left = 100

    def ask(self, request: Labels, done: Done) -> None:
        self._left -= 1
        if self._left == 0:
            threading.Event().wait(self._seconds)
        done(request)


class OneAtATime(Echo):
    """A single server with a fixed time for each request, kept on a clock: that it wakes late costs no capacity."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._waiting = seconds, SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def ask(self, request: Labels, done: Done) -> None:
        self._waiting.put((time.monotonic(), request, done))

    def close(self) -> None:
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        free = 0.0
        while (item := self._waiting.get()) is not None:
            arrived, request, done = item
            free = max(free, arrived) + self._seconds
            threading.Event().wait(max(0.0, free - time.monotonic()))
            done(request)


@dataclass(frozen=True)
class OneAtATimeTarget:
    seconds: float
    name: str = "one at a time"

    def connect(self) -> Connection:
        return OneAtATime(self.seconds)


@dataclass(frozen=True)
class Unreachable:
    name: str = "nobody"

    def connect(self) -> Connection:
        raise OSError("no route")


@dataclass(frozen=True)
class Dying:
    name: str = "dying"

    def connect(self) -> Connection:
        raise SystemExit(9)
