"""Connections to a model on a Triton server."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from pipeline.bench.serving.http_calls import HttpCalls, Reply, post
from pipeline.bench.serving.targets import Connection, Done, Labels
from pipeline.client.contract import Contract
from pipeline.client.control import Control, Work
from pipeline.client.over_http import JSON_BYTES, HttpClient, from_http, to_http
from pipeline.client.prepared import Prepared, PreparedCalls, labels_of, make_request
from pipeline.errors import RequestError, UsageError

if TYPE_CHECKING:
    from pipeline.bench.serving.targets import TritonTarget


class OverGrpc(Connection):
    """gRPC.

    Raises:
        UsageError: the model takes no text.
        ServerError: the server cannot be reached, or does not serve this model.
    """

    def __init__(self, target: "TritonTarget") -> None:
        self._calls = PreparedCalls(target.url, target.model, target.version, target.access)
        self._control, self._model = Control(target.url, target.access), target.model
        self.batch_size, self.in_flight = _text_batch_size(target.model, self._calls.contract), target.in_flight

    def encode(self, texts: Sequence[bytes]) -> Prepared:
        """Return the serialised message."""
        return self._calls.prepare(texts)

    def ask(self, request: Prepared, done: Done) -> None:
        """As `Connection.ask`."""
        self._calls.send(request, done)

    def answer(self, request: Prepared) -> Labels:
        """As `Connection.answer`, without a second thread."""
        return self._calls.answer(request)

    def work(self) -> Work | None:
        """Ask the server what it has done for this model so far; None where it, or a gateway, keeps that to itself."""
        try:
            return self._control.work(self._model)
        except RequestError:
            return None

    def close(self) -> None:
        """Hang up."""
        self._control.close()
        self._calls.close()


class OverHttp(Connection):
    """HTTP, over connections that are kept; raises as `OverGrpc`."""

    def __init__(self, target: "TritonTarget") -> None:
        version = f"/versions/{quote(target.version)}" if target.version else ""
        self._model, self._version = target.model, target.version
        self._path = f"/v2/models/{quote(target.model)}{version}/infer"
        self._headers = {"Host": target.url, **target.access.headers}  # which a gateway may choose by
        self._contract = HttpClient(target.url, target.model, target.version, access=target.access).contract()
        self.batch_size, self.in_flight = _text_batch_size(target.model, self._contract), target.in_flight
        context = target.access.context() if target.access.is_secure else None
        self._calls = HttpCalls(target.url, context, target.access.server_name)

    def encode(self, texts: Sequence[bytes]) -> Prepared:
        """Return the bytes of the HTTP request."""
        request = make_request(texts, self._contract, self._model, self._version)
        head, body = to_http(request.message)
        return Prepared(post(self._path, body, {**self._headers, **head}), request.rows)

    def ask(self, request: Prepared, done: Done) -> None:
        """As `Connection.ask`."""
        self._calls.send(request.content, lambda reply: done(_received(reply, request)))

    def answer(self, request: Prepared) -> Labels:
        """As `Connection.answer`, without a second thread."""
        return _labels(self._calls.answer(request.content), request)

    def close(self) -> None:
        """Hang up."""
        self._calls.close()


def _received(reply: Reply | Exception, request: Prepared) -> Labels | Exception:
    try:
        return reply if isinstance(reply, Exception) else _labels(reply, request)
    except RequestError as error:
        return error


def _labels(reply: Reply, request: Prepared) -> Labels:
    if reply.status != 200:
        raise RequestError(f"{reply.status} {reply.body.decode(errors='replace')}")
    try:
        size = int(reply.headers[JSON_BYTES.lower()])
        response = from_http(json.loads(reply.body[:size]), reply.body[size:])
    except (KeyError, TypeError, ValueError) as error:
        raise RequestError(f"an answer that is not in Triton's binary form ({error!r})") from error
    return labels_of(request.rows, response)


def _text_batch_size(model: str, contract: Contract) -> int:
    if contract.interface != "text":
        raise UsageError(f"{model}: takes {contract.interface}; `pipeline bench serve` asks with texts only.")
    return contract.max_batch_size
