"""The rounds as Prometheus metrics, on a port of their own."""

from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

from pipeline.errors import ServerError, UsageError
from pipeline.watch.probe import Round


class Exposition(AbstractContextManager["Exposition"]):
    """Metrics of one model's rounds, served until the block ends.

    Raises:
        UsageError: prometheus-client is not installed.
        ServerError: the port is taken, or may not be used.
    """

    def __init__(self, model: str, address: str, port: int) -> None:
        try:
            from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server
        except ImportError as error:
            raise UsageError(
                "pipeline watch: needs prometheus-client. Install it with `pip install 'pipeline[watch]'`."
            ) from error
        registry = CollectorRegistry()

        def metric(kind: Any, name: str, meaning: str) -> Any:
            return kind(f"pipeline_canary_{name}", meaning, ["model"], registry=registry).labels(model)

        self._success = metric(Gauge, "success", "Whether the last round's answers were the verified ones.")
        self._seconds = metric(Gauge, "seconds", "How long the last round took.")
        self._wrong = metric(Counter, "wrong_answers", "Answers that were not the verified ones.")
        self._version = metric(Gauge, "served_version", "The version that last answered.")
        self._answered = metric(Gauge, "last_answer_timestamp_seconds", "When the model last answered, right or wrong.")
        self._expires = metric(Gauge, "certificate_expiry_timestamp_seconds", "When the server's certificate ends.")
        try:
            self._server, self._thread = start_http_server(port, address, registry)
        except OSError as error:
            raise ServerError(f"{address}:{port}: {error.strerror}. Choose another with --metrics-port.") from error

    @property
    def port(self) -> int:
        """The port that is served on."""
        return int(self._server.server_port)

    def show(self, finished: Round) -> None:
        """Bring the metrics up to a round that has just ended."""
        self._success.set(finished.is_success)
        self._seconds.set(finished.seconds)
        self._wrong.inc(len(finished.wrong))
        if not finished.failure:
            self._version.set(finished.version or 0)
            self._answered.set_to_current_time()
        if finished.certificate_expires is not None:
            self._expires.set(finished.certificate_expires)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
