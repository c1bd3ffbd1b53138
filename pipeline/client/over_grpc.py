"""What both gRPC clients decide alike: how a request is sent, when it is sent again, and when it is given up."""

from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal

import grpc

from pipeline.client.access import fault, said
from pipeline.client.endpoint import Endpoint
from pipeline.client.exchange import Request
from pipeline.client.retries import Budget, Counters, Pending, is_passing, is_unsent
from pipeline.client.tracing import Span
from pipeline.errors import ServerError, UsageError

_COMPRESSION = {"none": grpc.Compression.NoCompression, "gzip": grpc.Compression.Gzip}


@dataclass(eq=False)
class GrpcEndpoint(Endpoint):
    """A model behind gRPC.

    Attributes:
        retries: how often a request is sent again after a failure that passes: no connection, a full queue, a server or
            version that is starting or stopping; 0 for never. See `pipeline.client.retries`.
        hedge_after_seconds: send a request a second time when it has had no answer for so long, take the first good
            answer and cancel the other; None for never. Choose about the 95th percentile of what an answer takes.
        compression: of what is sent, `none` or `gzip`; what is received, the server decides
            (``--grpc-infer-response-compression-level``).

    Raises:
        UsageError: an option is out of range.
    """

    _: KW_ONLY
    retries: int = 3
    hedge_after_seconds: float | None = None
    compression: Literal["none", "gzip"] = "none"
    _budget: Budget = field(default_factory=Budget, init=False, repr=False)
    _stub: Any = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.retries < 0 or (self.hedge_after_seconds is not None and not self.hedge_after_seconds > 0):
            raise UsageError(
                "wanted retries of 0 or more, and hedge_after_seconds of more than 0 or None; "
                f"got {self.retries} and {self.hedge_after_seconds}."
            )
        if self.compression not in _COMPRESSION:
            raise UsageError(f"compression: wanted none or gzip, got {self.compression}.")

    @property
    def counters(self) -> Counters:
        """What has been sent so far, retries and hedges apart."""
        return self._budget.counters()

    def _method(self, name: str) -> Any:
        """Return what starts a call of a method and returns at once."""
        raise NotImplementedError

    def _ask(self, name: str, message: Any) -> Pending:
        """Send a question about the model."""
        self._budget.request()
        return Pending(lambda seconds: self._sent(name, message, seconds, []), self.timeout_seconds)

    def _infer(self, request: Request) -> Pending:
        """Send rows."""
        self._budget.request()
        span = Span(self.model, self.url, len(request.rows))
        return Pending(
            lambda seconds: self._sent("ModelInfer", request.message, seconds, span.metadata),
            self.timeout_seconds,
            span,
        )

    def _sent(self, name: str, message: Any, seconds: float, metadata: list[tuple[str, str]]) -> Any:
        return self._method(name)(
            message,
            timeout=seconds,
            metadata=[*self.access.metadata, *metadata],
            compression=_COMPRESSION[self.compression],
        )

    def _hedge(self, pending: Pending) -> Any | None:
        """Send a request beside its first call; return the second, None when the budget has no room."""
        return pending.send() if self._budget.takes("hedges") else None

    def _pause(self, pending: Pending, error: Any) -> float | None:
        """Return how long to wait before a request that failed is sent again; None when it is not."""
        if pending.retries >= self.retries or not is_passing(error) or fault(said(error)):
            return None
        pause_seconds = pending.pause_seconds()
        is_allowed = pause_seconds is not None and self._budget.takes("retries", is_unsent(error))
        return pause_seconds if is_allowed else None

    def _given_up(self, pending: Pending, error: Any, index: Any | None) -> ServerError:
        self._budget.failure()
        failure = self._failure(error, index)
        pending.end(error=str(failure))
        return failure
