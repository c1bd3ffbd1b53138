"""ONNX Runtime in the client's own process."""

from collections.abc import Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING

import numpy as np

from pipeline.bench.serving.targets import Connection, Done, Labels
from pipeline.errors import UsageError
from pipeline.runtime import open_session

if TYPE_CHECKING:
    from pipeline.bench.serving.targets import OnnxTarget


class InProcess(Connection):
    """A session that a few threads run, each time with all texts that wait, up to a batch.

    Raises:
        UsageError: the model takes no text.
        PipelineError: it does not load.
    """

    is_remote = False

    def __init__(self, target: "OnnxTarget") -> None:
        self.batch_size = target.batch_size
        self._session = open_session(target.model, threads=target.threads)
        if (names := [tensor.name for tensor in self._session.get_inputs()]) != ["text"]:
            raise UsageError(f"{target.model}: takes {', '.join(names)}; `pipeline bench serve` asks with texts only.")
        self._waiting: SimpleQueue[tuple[np.ndarray, Done] | None] = SimpleQueue()
        self.in_flight = target.instances + 1  # one waits, so that no thread does
        self._threads = [Thread(target=self._work, daemon=True) for _ in range(target.instances)]
        for thread in self._threads:
            thread.start()

    def encode(self, texts: Sequence[bytes]) -> np.ndarray:
        """Return (B, 1) bytes, one wider than the longest text: ONNX Runtime reads each up to a NUL."""
        return np.array(texts, dtype=f"S{max(map(len, texts)) + 1}")[:, None]

    def ask(self, request: np.ndarray, done: Done) -> None:
        """As `Connection.ask`."""
        self._waiting.put((request, done))

    def answer(self, request: np.ndarray) -> Labels:
        """As `Connection.answer`, in the caller's own thread."""
        (labels,) = self._session.run(["label"], {"text": request})
        return labels[:, 0].tolist()  # type: ignore[no-any-return]

    def close(self) -> None:
        """End the threads; nothing may be on its way any more."""
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch, size = [first], len(first[0])
            with suppress(Empty):
                while size < self.batch_size and (item := self._waiting.get_nowait()):
                    batch.append(item)
                    size += len(item[0])
            self._run(batch)

    def _run(self, batch: list[tuple[np.ndarray, Done]]) -> None:
        try:
            labels: Labels | Exception = self.answer(np.concatenate([request for request, _ in batch]))
        except Exception as error:  # noqa: BLE001  ONNX Runtime's exceptions share no base class
            labels = error
        start = 0
        for request, done in batch:
            done(labels if isinstance(labels, Exception) else labels[start : start + len(request)])
            start += len(request)
