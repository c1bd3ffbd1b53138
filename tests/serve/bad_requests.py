"""Requests that a careless or hostile caller sends, each with the answer that is documented for it.

The gRPC code and the HTTP status are what Triton 2.51 gives; a changed one is a changed behaviour.
"""

import json
from dataclasses import dataclass

import numpy as np
from tritonclient.grpc import service_pb2

from tests.serve.asking import column
from tests.serve.load import request

HEADER = "Inference-Header-Content-Length"
MAX_BATCH = 64


@dataclass(frozen=True)
class Bad:
    """One request and its answer.

    Attributes:
        name: what is wrong with it.
        message: the request.
        code: the name of the gRPC status.
        status: the HTTP status.
    """

    name: str
    message: service_pb2.ModelInferRequest
    code: str = "INVALID_ARGUMENT"
    status: int = 400


def text_request(*texts: bytes) -> service_pb2.ModelInferRequest:
    return request("words", text=column(*(texts or (b"good",))))


def frames_request(
    features: tuple[int, ...] = (2, 5, 3), lengths: tuple[int, ...] = (2, 1), **others: np.ndarray
) -> service_pb2.ModelInferRequest:
    numbers = np.full(lengths, 3, np.int64)
    return request("frames", features=np.ones(features, np.float32), lengths=numbers, **others)


def changed(message: service_pb2.ModelInferRequest, number: int = 0, **changes: object) -> service_pb2.ModelInferRequest:
    """Return a request with fields of one input changed; `content` is its bytes."""
    copy = service_pb2.ModelInferRequest.FromString(message.SerializeToString())
    if "content" in changes:
        copy.raw_input_contents[number] = changes.pop("content")
    if "shape" in changes:
        copy.inputs[number].shape[:] = changes.pop("shape")
    for name, value in changes.items():
        setattr(copy.inputs[number], name, value)
    return copy


def to_http(message: service_pb2.ModelInferRequest) -> tuple[str, dict[str, str], bytes]:
    """Return path, headers and body of the same request over HTTP, in Triton's binary form."""
    version = f"/versions/{message.model_version}" if message.model_version else ""
    inputs = [
        {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.shape),
            "parameters": {"binary_data_size": len(content)},
        }
        for tensor, content in zip(message.inputs, message.raw_input_contents, strict=False)
    ]
    outputs = [{"name": output.name} for output in message.outputs]
    head = json.dumps({"inputs": inputs} | ({"outputs": outputs} if outputs else {})).encode()
    body = b"".join([head, *message.raw_input_contents])
    return f"/v2/models/{message.model_name}{version}/infer", {HEADER: str(len(head))}, body
