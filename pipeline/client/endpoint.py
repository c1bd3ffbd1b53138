"""Whom to ask and how: the options that both clients share, and the plain reason when an answer fails to come."""

from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, NoReturn

import grpc
from tritonclient.grpc import service_pb2

from pipeline.client.access import Access, fault, said
from pipeline.client.contract import Contract
from pipeline.client.exchange import Exchange
from pipeline.client.request_log import RequestLog
from pipeline.errors import RequestError, ServerError, UsageError

INDEX_REQUEST = service_pb2.RepositoryIndexRequest()
INDEX_TIMEOUT_SECONDS = 1.0  # it only explains a failure that has been waited for already


@dataclass(eq=False)
class Endpoint:
    """A model on a server; nothing is sent when one is made.

    Attributes:
        url: host and gRPC port of the server.
        model: the model's name in the repository.
        version: a version number; empty for the one that the server chooses.
        timeout_seconds: the deadline of each request, with all that is done to have it answered.
        batch_size: the most rows in one request; None for the model's own limit, which always holds.
        in_flight: the most requests that are on their way at once.
        access: how the server is reached.
        log: where a sample of the rows and their predictions is written; the maker of the log closes it.

    Raises:
        UsageError: an option is out of range, or the address is a web address.
    """

    url: str = "127.0.0.1:8001"
    model: str = "sentiment"
    version: str = ""
    _: KW_ONLY
    timeout_seconds: float = 10.0
    batch_size: int | None = None
    in_flight: int = 8
    access: Access = field(default_factory=Access)
    log: RequestLog | None = None
    _contract: Contract | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if "://" in self.url:
            raise UsageError(f"{self.url}: wanted HOST:PORT of the server's gRPC port, such as 127.0.0.1:8001.")
        for name in ("timeout_seconds", "batch_size", "in_flight"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"{name}: wanted more than 0, got {value}.")

    def _config_request(self) -> Any:
        return service_pb2.ModelConfigRequest(name=self.model, version=self.version)

    def _exchange(self, contract: Contract, rows: object) -> Exchange:
        require_rows(rows)
        return Exchange(contract, self.model, self.version, self.batch_size, self.in_flight, self.log)

    def _is_plain(self, error: Any) -> bool:
        """Return whether a failed call says why itself, or had no time to: then nothing more is asked."""
        return error.code() == grpc.StatusCode.DEADLINE_EXCEEDED or bool(fault(said(error)))

    def _hidden(self, error: Any) -> Any | None:
        """Return what a server has that would not say so, which is all that was asked; None when nobody answered."""
        is_silent = error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
        if is_silent and not fault(said(error)):
            return None
        asked = service_pb2.RepositoryIndexResponse.ModelIndex(
            name=self.model, version=self.version or "1", state="READY"
        )
        return service_pb2.RepositoryIndexResponse(models=[asked])

    def _failure(self, error: Any, index: Any | None) -> ServerError:
        """Say why a call failed.

        Args:
            error: the failed call's `grpc.RpcError`.
            index: the server's list of models, asked for after the failure; None when there is none.
        """
        reason = " ".join((error.details() or error.code().name).split())
        if refusal := fault(said(error)):
            return ServerError(f"{self.url}: {refusal}.")
        if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
            return ServerError(
                f"{self.url}: no answer from {self.model} within {self.timeout_seconds:g} s. "
                "Check the address, send fewer rows at once, or allow more time."
            )
        if index is None or error.code() == grpc.StatusCode.UNIMPLEMENTED:
            return ServerError(
                f"{self.url}: no Triton server answers on this gRPC port ({reason.rsplit(': ')[-1]}). "
                f"Start one with `pipeline serve`, or correct the address.{self.access.hint(error)}"
            )
        if missing := self._missing(index.models):
            return RequestError(f"{self.url}: {missing}")
        is_busy = error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED}
        advice = " Try again later, or keep fewer requests in flight." if is_busy else ""
        return RequestError(f"{self.url}: {self.model} refused the request: {reason.rstrip('.')}.{advice}")

    def _missing(self, models: Iterable[Any]) -> str:
        """Return what the repository lacks of what was asked; empty when it has it all."""
        ready = [model for model in models if model.state == "READY"]
        versions = [model.version for model in ready if model.name == self.model]
        if versions and (not self.version or self.version in versions):
            return ""
        if versions:
            return f"{self.model} has no version {self.version}; there are: {', '.join(sorted(versions, key=int))}."
        if reasons := [model.reason or "it is not loaded" for model in models if model.name == self.model]:
            return f"{self.model} is not ready: {reasons[0]}."
        return f"no model {self.model}; there are: {', '.join(sorted({model.name for model in ready})) or 'none'}."


def require_rows(rows: object) -> None:
    """Refuse one text where rows are wanted, whose letters would be rows.

    Raises:
        UsageError: it is one text.
    """
    if isinstance(rows, str | bytes):
        raise UsageError(f"wanted a list of rows, got one {type(rows).__name__}. Put it in a list: [text].")


class Closed:
    """What a client that has hung up has in place of its stub: whatever is asked of it is refused."""

    def __getattr__(self, name: str) -> NoReturn:
        raise UsageError("this client is closed. Make a new one, or close it later.")
