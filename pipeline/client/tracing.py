"""A span for each request, for programs that trace themselves with OpenTelemetry; nothing at all for the others.

OpenTelemetry is not imported here: a program that has set a tracer provider has imported it.

Source: OpenTelemetry's semantic conventions for RPC spans; W3C Trace Context for what travels in the metadata.
"""

import sys
import time
from importlib import import_module
from typing import Any

_SERVICE, _METHOD = "inference.GRPCInferenceService", "ModelInfer"


class Span:
    """The span of one request, or nothing.

    Attributes:
        metadata: what the calls of the request carry, so that the server's spans join this one.
    """

    def __init__(self, model: str, url: str, rows: int) -> None:
        self.metadata: list[tuple[str, str]] = []
        self._span: Any = None
        if trace := sys.modules.get("opentelemetry.trace"):
            self._start(trace, {"pipeline.model": model, "pipeline.rows": rows, "server.address": url})

    def end(
        self, retries: int = 0, hedges: int = 0, version: str = "", error: str = "", unread_seconds: float = 0.0
    ) -> None:
        """End it, with what became of the request; for how long its answer was not read is no part of it."""
        span, self._span = self._span, None
        if span is not None:
            span.set_attributes({"pipeline.retries": retries, "pipeline.hedges": hedges, "pipeline.version": version})
            if error:
                span.set_status(import_module("opentelemetry.trace").StatusCode.ERROR, error)
            span.end(end_time=time.time_ns() - int(unread_seconds * 1e9))

    def _start(self, trace: Any, attributes: dict[str, str | int]) -> None:
        tracer = trace.get_tracer("pipeline.client")
        attributes |= {"rpc.system": "grpc", "rpc.service": _SERVICE, "rpc.method": _METHOD}
        self._span = tracer.start_span(f"{_SERVICE}/{_METHOD}", kind=trace.SpanKind.CLIENT, attributes=attributes)
        carrier: dict[str, str] = {}
        import_module("opentelemetry.propagate").inject(carrier, trace.set_span_in_context(self._span))
        self.metadata = list(carrier.items())
