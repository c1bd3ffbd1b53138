"""When a request is sent again: only where that is safe and useful, ever later, and never so often that it is a load.

To classify is idempotent: a row that is answered twice has changed nothing. So safety is not the question; usefulness
is. Sent again is what another moment may answer: no connection, a full queue, a server or version that is starting or
stopping. Not sent again is what any moment refuses (invalid input, a wrong token or certificate, no such model), and
what took too long: that server has too much to do already.

gRPC's own retry policy (gRFC A6) is not used: it goes by status code alone, but Triton calls a missing token
UNAVAILABLE and a model that it is unloading NOT_FOUND; it tells nobody how often it retried; and gRPC for Python has no
hedging.
"""

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any

import grpc

from pipeline.client.access import said
from pipeline.client.tracing import Span

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0
BUDGET_SHARE = 0.1
BUDGET_BURST = 10
_NO_VERSION = "has no available versions"  # Triton 24.10 of a model that is being unloaded, or the server stopped


@dataclass(frozen=True)
class Counters:
    """What a client has sent so far.

    Attributes:
        requests: requests, each counted once.
        retries: how often one was sent again because it had failed.
        hedges: how often one was sent again because it took long.
        denied: retries and hedges that the budget had no room for.
        failures: requests that failed in the end.
    """

    requests: int = 0
    retries: int = 0
    hedges: int = 0
    denied: int = 0
    failures: int = 0


class Budget:
    """What may be sent again: a tenth of all requests and ten, so that overload is never made much worse.

    What never reached a server was no load to it: to send that again is free.

    Source: gRFC A6, "gRPC Retry Design": its token bucket, filled by requests instead of successes, and its transparent
    retries.
    """

    def __init__(self, share: float = BUDGET_SHARE, burst: float = BUDGET_BURST) -> None:
        self._counts: Counter[str] = Counter()
        self._share, self._burst, self._tokens = share, burst, float(burst)
        self._lock = Lock()

    def request(self) -> None:
        """Count a request."""
        with self._lock:
            self._tokens = min(self._burst, self._tokens + self._share)
            self._counts["requests"] += 1

    def takes(self, kind: str, is_free: bool = False) -> bool:
        """Count one of the `retries` or `hedges`, if there is room for it."""
        with self._lock:
            has_room = is_free or self._tokens >= 1
            self._tokens -= has_room and not is_free
            self._counts[kind if has_room else "denied"] += 1
            return has_room

    def failure(self) -> None:
        """Count a request that failed in the end."""
        with self._lock:
            self._counts["failures"] += 1

    def counters(self) -> Counters:
        """Return the counts as they are now."""
        with self._lock:
            return Counters(**self._counts)


class Pending:
    """One request on its way: its calls, and how much of its time is spent.

    The time runs while a call is on its way and between two, not while an answer waits for a slow reader.

    Args:
        send: sends it, given how many seconds it may take; returns the gRPC call.
        timeout_seconds: for all calls and the pauses between them together.
        span: the trace of it, if any.

    Attributes:
        retries: how often it was sent again after a failure.
        hedges: how often it was sent a second time beside the first.
        calls: those that are on their way, or were last.
    """

    def __init__(self, send: Callable[[float], Any], timeout_seconds: float, span: Span | None = None) -> None:
        self.retries = self.hedges = 0
        self.calls: list[Any] = []
        self._send, self._left_seconds, self._span = send, timeout_seconds, span
        self._begun = time.monotonic()
        self._ended: float | None = None
        self.send()

    def send(self) -> Any:
        """Send it, beside the call that is on its way already; return the new one."""
        self.hedges += len(self.calls)
        call = self._send(self._left_seconds - (time.monotonic() - self._begun))
        self.calls.append(call)
        call.add_done_callback(self._end)
        return call

    def send_again(self) -> None:
        """Send it after all its calls have failed, and a pause."""
        self.calls.clear()
        self.retries += 1
        self._begun, self._ended = time.monotonic(), None
        self.send()

    def pause_seconds(self) -> float | None:
        """Return how long to wait before sending it again, and count that as spent; None when there is no time left.

        Source: Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015), full jitter.
        """
        longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**self.retries)
        pause = random.uniform(0, longest)  # noqa: S311  to keep callers apart, not a secret
        self._left_seconds -= (self._ended or time.monotonic()) - self._begun + pause
        return pause if self._left_seconds > 0 else None

    def seconds_until(self, age_seconds: float) -> float:
        """Return how long it is until the request has been on its way for so long."""
        return max(0.0, self._begun + age_seconds - time.monotonic())

    def end(self, response: Any = None, error: str = "") -> None:
        """End it, with an answer or an error; cancel what is still on its way, here and at the server."""
        unread_seconds = time.monotonic() - self._ended if self._ended else 0.0
        if self.hedges or error:
            for call in self.calls:
                call.cancel()
        if self._span:
            version = getattr(response, "model_version", "")
            self._span.end(self.retries, self.hedges, version, error, unread_seconds)

    def _end(self, _: Any) -> None:
        self._ended = time.monotonic()


def is_passing(error: Any) -> bool:
    """Return whether another moment may answer what failed with this `grpc.RpcError`."""
    if error.code() == grpc.StatusCode.NOT_FOUND:
        return said(error).endswith(_NO_VERSION)
    return bool(error.code() == grpc.StatusCode.UNAVAILABLE)


def is_unsent(error: Any) -> bool:
    """Return whether a call that failed with this `grpc.RpcError` never reached a server."""
    return "failed to connect to all addresses" in said(error)
