"""A supervised server for the length of a ``with`` block."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from typing import Any

from pipeline.serve.layout import Options
from pipeline.serve.monitor import Event, Ready
from pipeline.serve.process import memory_bytes
from pipeline.serve.supervise import supervise


class Server:
    """A supervised server in a thread of this process.

    Attributes:
        events: what has happened since the start, the first `Ready` included.
        error: why it was given up.
    """

    def __init__(self, options: Options) -> None:
        self.events: list[Event] = []
        self.error: BaseException | None = None
        self._stop = Flag()
        self._begun = Flag()
        self._thread = Thread(target=self._run, args=(options,), name="pipeline-serve")

    def start(self) -> None:
        """Start, and wait until every model answers.

        Raises:
            PipelineError: as `supervise` does.
        """
        try:
            self._thread.start()
            self._begun.wait()
        except BaseException:  # Ctrl-C: the thread would go on, and Python wait for it
            self._stop.set()
            raise
        if self.error:
            self._thread.join()
            raise self.error

    @property
    def ready(self) -> Ready:
        """The last time that the server said it was ready."""
        return next(event for event in reversed(self.events) if isinstance(event, Ready))

    def stop(self) -> None:
        """Let the server finish what it is answering, and wait until it is gone.

        Raises:
            PipelineError: it was given up while it should have been running.
        """
        self._stop.set()
        self._thread.join()
        if self.error:
            raise self.error

    def memory_bytes(self) -> int:
        """Return what Triton and its stubs hold in memory."""
        return memory_bytes(self.ready.pid)

    @property
    def grpc_url(self) -> str:
        """Host and port for gRPC."""
        return self.ready.grpc

    @property
    def http_url(self) -> str:
        """Host and port for HTTP."""
        return self.ready.http

    def _run(self, options: Options) -> None:
        try:
            for event in supervise(options, self._stop):
                self.events.append(event)
                if isinstance(event, Ready):
                    self._begun.set()
        except BaseException as error:  # noqa: BLE001  raised again where the server was asked for
            self.error = error
        finally:
            self._begun.set()


@contextmanager
def running(repository: Path, **changes: Any) -> Iterator[Server]:
    """Serve a repository on free ports of loopback.

    Args:
        repository: the model repository.
        changes: of the other `Options`, by name.

    Raises:
        PipelineError: as `supervise` does.
    """
    options = Options(repository, **{"http_port": 0, "grpc_port": 0, "metrics_port": 0, **changes})
    server = Server(options)
    server.start()
    try:
        yield server
    finally:
        server.stop()
