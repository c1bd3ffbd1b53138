"""Requests that are made ahead of time and sent as they lie: for `pipeline bench serve`, which must cost little itself.

What is sent is what `Client` would send; it is not sent again when it fails.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from tritonclient.grpc import service_pb2

from pipeline.client.access import Access
from pipeline.client.closing import Closing
from pipeline.client.contract import Contract
from pipeline.client.exchange import BATCH_BYTES, Exchange, Request, Row
from pipeline.client.transport import Client
from pipeline.errors import DataError, RequestError

_INFER = "/inference.GRPCInferenceService/ModelInfer"


@dataclass(frozen=True)
class Prepared:
    """A request as it goes over the wire.

    Attributes:
        content: the serialised message.
        rows: the number that each of its rows had when they were given: they are sent sorted by size.
    """

    content: bytes
    rows: tuple[int, ...]


class PreparedCalls(Closing):
    """A model on a server, asked with prepared requests. Threads may share it.

    Args:
        url: host and gRPC port of the server.
        model: the model's name.
        version: a version number; empty for the one that the server chooses.
        access: how the server is reached.
        timeout_seconds: the deadline of each request.

    Raises:
        ServerError: the server cannot be reached.
        RequestError: it does not serve this model, or the model is not one of ours.
    """

    def __init__(
        self, url: str, model: str, version: str = "", access: Access | None = None, timeout_seconds: float = 60.0
    ) -> None:
        self._access, self._timeout_seconds = access or Access(), timeout_seconds
        with Client(url, model, version, access=self._access) as client:
            self.contract: Contract = client.contract()
        self._address = model, version
        self._channel = self._access.channel(url)
        self._call = self._channel.unary_unary(_INFER)  # without serialisers: bytes in, bytes out

    def close(self) -> None:
        """Hang up."""
        self._channel.close()

    def prepare(self, rows: Sequence[Row]) -> Prepared:
        """Return one request for rows.

        Raises:
            DataError: a row is not of the model's kind, or the rows do not fit into one request.
        """
        request = make_request(rows, self.contract, *self._address)
        return Prepared(request.message.SerializeToString(), request.rows)

    def answer(self, prepared: Prepared) -> list[str]:
        """Send a request and wait; return the labels in the order of the rows.

        Raises:
            RequestError: the server refused, or did not answer in time.
        """
        try:
            content = self._call(prepared.content, timeout=self._timeout_seconds, metadata=self._access.metadata)
        except grpc.RpcError as error:
            raise _refusal(error) from error
        return labels_of(prepared.rows, service_pb2.ModelInferResponse.FromString(content))

    def send(self, prepared: Prepared, done: Callable[[list[str] | Exception], None]) -> None:
        """Send a request; `done` is called from a thread of gRPC's with the labels, or with what went wrong."""
        call = self._call.future(prepared.content, timeout=self._timeout_seconds, metadata=self._access.metadata)
        call.add_done_callback(lambda finished: done(_received(finished, prepared.rows)))


def make_request(rows: Sequence[Row], contract: Contract, model: str, version: str = "") -> Request:
    """Return the one request that carries rows; raises as `PreparedCalls.prepare`."""
    exchange = Exchange(contract, model, version, None, 1)
    requests = [request for row in rows for request in exchange.add(row)] + exchange.cut()
    if len(requests) != 1:
        raise DataError(
            f"{len(rows)} rows, which do not fit into one request: {model} takes {contract.max_batch_size} at once, of "
            f"{BATCH_BYTES:,} bytes, all counted as long as the longest."
        )
    return requests[0]


def labels_of(rows: Sequence[int], response: Any) -> list[str]:
    """Return the labels of a `ModelInferResponse`, each in the place that its row was given in.

    Raises:
        RequestError: the answer has not one label for each row, or none that can be read.
    """
    names = [output.name for output in response.outputs]
    found, start = [], 0
    try:
        content = response.raw_output_contents[names.index("label")] if "label" in names else b""
        while start < len(content):
            end = start + 4 + int.from_bytes(content[start : start + 4], "little")
            found.append(content[start + 4 : end].decode())
            start = end
    except (IndexError, UnicodeDecodeError) as error:
        raise RequestError(f"{response.model_name}: labels that cannot be read ({error!r}).") from error
    if len(found) != len(rows):
        raise RequestError(f"{response.model_name}: got {len(found)} labels, wanted {len(rows)}.")
    ordered = [""] * len(found)
    for row, label in zip(rows, found, strict=True):
        ordered[row] = label
    return ordered


def _received(call: Any, rows: Sequence[int]) -> list[str] | Exception:
    error = call.exception()
    if error is not None:
        return _refusal(error)
    try:
        return labels_of(rows, service_pb2.ModelInferResponse.FromString(call.result()))
    except RequestError as refusal:
        return refusal


def _refusal(error: Any) -> RequestError:
    return RequestError(" ".join(f"{error.code().name}: {error.details()}".split()))
