"""Whom we ask beside our own targets: a server that speaks JSON over HTTP, and Python in process."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import Protocol

from pipeline.bench.serving import Connection
from pipeline.bench.serving.http_calls import HttpCalls, Reply, post
from pipeline.bench.serving.targets import Done, Labels
from pipeline.errors import RequestError

_BATCH = 64


class Classifier(Protocol):
    """Anything that labels texts."""

    def labels(self, texts: Sequence[str]) -> list[str]:
        """Return the label of each text."""


@dataclass(frozen=True)
class HttpTarget:
    """A server on loopback that takes ``{"texts": […]}`` and gives ``{"labels": […]}`` or the bare list."""

    name: str
    port: int

    def connect(self) -> Connection:
        """Open connections as they are needed."""
        return _OverHttp(self.port)


@dataclass(frozen=True)
class PythonTarget:
    """A classifier that the client's process makes for itself and runs in one thread."""

    name: str
    make: Callable[[], Classifier]

    def connect(self) -> Connection:
        """Make the classifier."""
        return _InPython(self.make())


class _OverHttp(Connection):
    """The project's own lean client: requests lie ready as bytes, connections are kept."""

    batch_size, in_flight = _BATCH, 8

    def __init__(self, port: int) -> None:
        self._calls = HttpCalls(f"127.0.0.1:{port}")

    def encode(self, texts: Sequence[bytes]) -> bytes:
        body = json.dumps({"texts": [text.decode("utf-8", "replace") for text in texts]}).encode()
        return post("/classify", body, {"Content-Type": "application/json"})

    def ask(self, request: bytes, done: Done) -> None:
        self._calls.send(request, lambda reply: done(reply if isinstance(reply, Exception) else _labels(reply)))

    def answer(self, request: bytes) -> Labels:
        labels = _labels(self._calls.answer(request))
        if isinstance(labels, Exception):
            raise labels
        return labels

    def close(self) -> None:
        self._calls.close()


def _labels(reply: Reply) -> Labels | Exception:
    if reply.status != 200:
        return RequestError(f"HTTP {reply.status}: {reply.body[:200].decode(errors='replace')}")
    try:
        answer = json.loads(reply.body)
        return answer["labels"] if isinstance(answer, dict) else answer
    except (ValueError, KeyError) as error:  # raised, it would end in a thread of the pool, and nobody would hear of it
        return RequestError(f"an answer that is not understood: {error!r}")


class _InPython(Connection):
    """One thread runs the classifier, each time with all texts that wait, up to a batch."""

    is_remote = False
    batch_size, in_flight = _BATCH, 2

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._waiting: SimpleQueue[tuple[list[str], Done] | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name="bench-python", daemon=True)
        self._thread.start()

    def encode(self, texts: Sequence[bytes]) -> list[str]:
        return [text.decode("utf-8", "replace") for text in texts]

    def ask(self, request: list[str], done: Done) -> None:
        self._waiting.put((request, done))

    def answer(self, request: list[str]) -> Labels:
        return self._classifier.labels(request)

    def close(self) -> None:
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        for first in iter(self._waiting.get, None):
            batch, texts = [first], list(first[0])
            while len(texts) < self.batch_size and not self._waiting.empty() and (item := self._waiting.get()):
                batch.append(item)
                texts += item[0]
            self._run(batch, texts)

    def _run(self, batch: list[tuple[list[str], Done]], texts: list[str]) -> None:
        try:
            labels: Labels | Exception = self.answer(texts)
        except Exception as error:  # noqa: BLE001  whatever an engine raises is what is measured
            labels = error
        start = 0
        for request, done in batch:
            done(labels if isinstance(labels, Exception) else labels[start : start + len(request)])
            start += len(request)
