"""The way in over HTTP, for `pipeline verify` to ask: the same rows, cut and padded alike, in Triton's binary form.

Source: KServe's inference protocol, version 2, with Triton's binary tensor data extension. JSON alone cannot carry
bytes that are not UTF-8.
"""

import contextlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any
from urllib.parse import quote

from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2, service_pb2

from pipeline.client.access import Access, fault
from pipeline.client.contract import Contract
from pipeline.client.endpoint import Endpoint
from pipeline.client.exchange import Row
from pipeline.client.prediction import Prediction
from pipeline.errors import RequestError, ServerError

JSON_BYTES = "Inference-Header-Content-Length"  # what follows these many bytes is tensors
_GRPC_CODES = {401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED"}
_OUTPUTS = ("probabilities", "label", "valid")


@dataclass(eq=False)
class HttpClient(Endpoint):
    """A client for the server's HTTP port that sends one request at a time, each over a connection of its own."""

    def contract(self) -> Contract:
        """Return what the model takes and gives, as its server says; asked for once; raises as `Client.contract`."""
        if self._contract is None:
            _, content = self._asked("GET", "config")
            try:
                config = json_format.Parse(content, model_config_pb2.ModelConfig(), ignore_unknown_fields=True)
            except (json_format.ParseError, ValueError) as error:
                raise RequestError(
                    f"{self.url}: no Triton server: it answers, but not with a configuration."
                ) from error
            self._contract = Contract.from_config(config)
        return self._contract

    def classify(self, rows: Iterable[Row]) -> list[Prediction]:
        """Return one prediction per row, in their order; raises as `Client.classify`."""
        exchange = self._exchange(self.contract(), rows)
        return [
            prediction
            for request in exchange.requests(rows)
            for prediction in exchange.receive(request, self._inferred(request.message))
        ]

    def close(self) -> None:
        """Do nothing: no connection outlives its request."""

    def _inferred(self, message: Any) -> Any:
        """Return a `ModelInferResponse` for a `ModelInferRequest`."""
        head, content = self._asked("POST", "infer", *to_http(message))
        try:
            size = int(head[JSON_BYTES])
            return from_http(json.loads(content[:size]), content[size:])
        except (KeyError, TypeError, ValueError) as error:
            raise RequestError(
                f"{self.url}: {self.model}'s answer is not in Triton's binary form ({error!r})."
            ) from error

    def _asked(
        self, method: str, what: str, head: dict[str, str] | None = None, body: bytes = b""
    ) -> tuple[Any, bytes]:
        version = f"/versions/{quote(self.version)}" if self.version else ""
        path = f"/v2/models/{quote(self.model)}{version}/{what}"
        try:
            try:
                response, content = self._sent(method, path, head or {}, body)
            except ConnectionResetError:  # of a server that is there; to ask a model twice changes nothing
                response, content = self._sent(method, path, head or {}, body)
        except (OSError, HTTPException) as error:
            if refusal := fault(str(error)):
                raise ServerError(f"{self.url}: {refusal}.") from error
            raise ServerError(
                f"{self.url}: no Triton server answers on this HTTP port ({str(error) or type(error).__name__}). "
                "Start one with `pipeline serve`, or correct the address."
            ) from error
        if response.status != 200:
            reason = " ".join(content.decode(errors="replace").split())
            if refusal := fault(f"{_GRPC_CODES.get(response.status, '')} {reason}"):
                raise ServerError(f"{self.url}: {refusal}.")
            raise RequestError(f"{self.url}: {self.model} refused the request: {response.status} {reason}")
        return response.headers, content

    def _sent(self, method: str, path: str, head: dict[str, str], body: bytes) -> tuple[HTTPResponse, bytes]:
        with contextlib.closing(self._connection()) as connection:
            connection.request(method, path, body, {**self.access.headers, **head})
            response = connection.getresponse()
            return response, response.read()

    def _connection(self) -> HTTPConnection:
        if not self.access.is_secure:
            return HTTPConnection(self.url, timeout=self.timeout_seconds)
        return _TlsConnection(self.url, self.timeout_seconds, self.access)


class _TlsConnection(HTTPConnection):
    """TLS with a server that may be reached by another name than its certificate's, unlike `HTTPSConnection`."""

    default_port = 443

    def __init__(self, url: str, timeout_seconds: float, access: Access) -> None:
        super().__init__(url, timeout=timeout_seconds)
        self._context, self._server_name = access.context(), access.server_name or self.host

    def connect(self) -> None:
        super().connect()
        self.sock = self._context.wrap_socket(self.sock, server_hostname=self._server_name)


def to_http(message: Any) -> tuple[dict[str, str], bytes]:
    """Return a `ModelInferRequest` as headers and body."""
    inputs = [
        {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.shape),
            "parameters": {"binary_data_size": len(content)},
        }
        for tensor, content in zip(message.inputs, message.raw_input_contents, strict=True)
    ]
    outputs = [{"name": name, "parameters": {"binary_data": True}} for name in _OUTPUTS]
    head = json.dumps({"inputs": inputs, "outputs": outputs}).encode()
    return {JSON_BYTES: str(len(head))}, b"".join([head, *message.raw_input_contents])


def from_http(answer: dict[str, Any], content: bytes) -> Any:
    """Return the JSON and the tensors of an answer as a `ModelInferResponse`."""
    names = {name: answer.get(name, "") for name in ("model_name", "model_version")}
    message, start = service_pb2.ModelInferResponse(**names), 0
    for tensor in answer["outputs"]:
        size = tensor["parameters"]["binary_data_size"]
        message.outputs.add(name=tensor["name"], datatype=tensor["datatype"], shape=tensor["shape"])
        message.raw_output_contents.append(content[start : start + size])
        start += size
    return message
