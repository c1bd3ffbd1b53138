"""Requests that a careless or hostile caller sends, each with the answer that is documented for it.

The statuses are those of Triton 2.51; other ones would be a change that callers notice. Not among them, because they do
end that Triton's server or stub, see SECURITY.md: the classification extension on a STRING output, and a shape whose
bytes overflow 64 bits.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2

from tests.serve.asking import column
from tests.serve.load import request

Message = service_pb2.ModelInferRequest
HEADER = "Inference-Header-Content-Length"
CLOSED = 0  # the connection was closed without an answer


@dataclass(frozen=True)
class Case:
    """One request and its answer.

    Attributes:
        code: the name of the gRPC status.
        status: the HTTP status.
    """

    name: str
    message: Message
    code: str = "INVALID_ARGUMENT"
    status: int = 400


def to_http(message: Message) -> tuple[str, dict[str, str], bytes]:
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
    head: dict[str, Any] = {"inputs": inputs, "parameters": {"binary_data_output": True}}
    if message.outputs:
        head["outputs"] = [{"name": output.name} for output in message.outputs]
    start = json.dumps(head).encode()
    path = f"/v2/models/{message.model_name}{version}/infer"
    return path, {HEADER: str(len(start))}, b"".join([start, *message.raw_input_contents])


def _text(*texts: bytes) -> Message:
    return request("words", text=column(*texts))


def _frames(features: tuple[int, ...] = (2, 5, 3), lengths: tuple[int, ...] = (2, 1), **others: np.ndarray) -> Message:
    numbers = np.full(lengths, 3, np.int64)
    return request("frames", features=np.ones(features, np.float32), lengths=numbers, **others)


def _with(message: Message, outputs: tuple[str, ...] = (), **changes: object) -> Message:
    """Return a copy with other fields."""
    copy = Message(**changes)
    merged = Message.FromString(message.SerializeToString() + copy.SerializeToString())
    for output in outputs:
        merged.outputs.add(name=output)
    return merged


def _tensor(message: Message, number: int = 0, content: bytes | None = None, **changes: Any) -> Message:
    """Return a copy in which one input is another."""
    copy = Message.FromString(message.SerializeToString())
    if content is not None:
        copy.raw_input_contents[number] = content
    if "shape" in changes:
        copy.inputs[number].shape[:] = changes.pop("shape")
    for name, value in changes.items():
        setattr(copy.inputs[number], name, value)
    return copy


def _without(message: Message, number: int) -> Message:
    copy = Message.FromString(message.SerializeToString())
    del copy.inputs[number], copy.raw_input_contents[number]
    return copy


def _twice(message: Message) -> Message:
    copy = Message.FromString(message.SerializeToString())
    copy.inputs.append(copy.inputs[0])
    copy.raw_input_contents.append(copy.raw_input_contents[0])
    return copy


GOOD_TEXT, GOOD_FRAMES = _text(b"good"), _frames()
CASES = (
    Case("a text", GOOD_TEXT, "OK", 200),
    Case("frames", GOOD_FRAMES, "OK", 200),
    Case("an empty text", _text(b""), "OK", 200),
    Case("bytes that are not UTF-8", _text(b"\xff\xfe\x80"), "OK", 200),
    Case("a NUL", _text(b"good\0awful"), "OK", 200),
    Case("control and private characters", _text("\x01\u202e\ufdd0\U0010ffff\ue000".encode()), "OK", 200),
    Case("half a surrogate pair", _text(b"\xed\xa0\x80"), "OK", 200),
    Case("a text of a megabyte", _text(b"good " * 200_000), "OK", 200),
    Case("a word of a megabyte", _text(b"g" * 1_000_000), "OK", 200),
    Case("as many rows as are allowed", _text(*[b"good"] * 64), "OK", 200),
    Case("one row more than is allowed", _text(*[b"good"] * 65)),
    Case("no rows of text", _text()),
    Case("no rows of frames", _frames((0, 5, 3), (0, 1))),
    Case("one row of frames more than is allowed", _frames((65, 5, 3), (65, 1))),
    Case("no batch axis", _tensor(GOOD_TEXT, shape=[1])),
    Case("no axes", _tensor(GOOD_TEXT, shape=[])),
    Case("an axis too many", _tensor(GOOD_TEXT, shape=[1, 1, 1])),
    Case("two texts in a row", _tensor(_text(b"good", b"bad"), shape=[1, 2])),
    Case("fewer texts than rows", _tensor(GOOD_TEXT, shape=[2, 1])),
    Case("more texts than rows", _tensor(_text(b"good", b"bad"), shape=[1, 1])),
    Case("a negative batch", _tensor(GOOD_TEXT, shape=[-1, 1]), status=500),
    Case("a negative axis", _tensor(GOOD_TEXT, shape=[1, -1]), status=500),
    Case("an enormous batch", _tensor(GOOD_TEXT, shape=[2**63 - 1, 1])),
    Case("an enormous shape", _tensor(GOOD_TEXT, shape=[2**62, 4])),
    Case("an axis of nothing", _tensor(GOOD_TEXT, shape=[1, 0], content=b"")),
    Case("a number for a text", _tensor(GOOD_TEXT, datatype="FP32", content=bytes(4))),
    Case("an unknown type", _tensor(GOOD_TEXT, datatype="NONSENSE")),
    Case("no type", _tensor(GOOD_TEXT, datatype="")),
    Case("a text longer than its bytes", _tensor(GOOD_TEXT, content=b"\xff\0\0\0good")),
    Case("a text of four gigabytes without them", _tensor(GOOD_TEXT, content=b"\xff\xff\xff\xffgood")),
    Case("a text shorter than its bytes", _tensor(GOOD_TEXT, content=b"\1\0\0\0good")),
    Case("half a length", _tensor(GOOD_TEXT, content=b"\4\0")),
    Case("no bytes", _tensor(GOOD_TEXT, content=b"")),
    Case("bytes after the text", _tensor(GOOD_TEXT, content=b"\4\0\0\0good!!")),
    Case("frames of four numbers", _frames((2, 5, 4))),
    Case("frames without the axis of time", _frames((2, 15))),
    Case("no frames", _frames((2, 0, 3)), "OK", 200),
    Case("frames that are not numbers", _tensor(GOOD_FRAMES, content=np.full(30, np.nan, "f4").tobytes()), "OK", 200),
    Case("frames of doubles", _tensor(GOOD_FRAMES, datatype="FP64")),
    Case("fewer bytes than the shape", _tensor(GOOD_FRAMES, content=bytes(8))),
    Case("more bytes than the shape", _tensor(GOOD_FRAMES, content=bytes(1000))),
    Case("more frames than memory", _tensor(GOOD_FRAMES, shape=[2, 2**40, 3])),
    Case("lengths beyond the frames", _tensor(GOOD_FRAMES, 1, np.array([-5, 2**62]).tobytes()), "OK", 200),
    Case("lengths for other rows", _frames((2, 5, 3), (3, 1))),
    Case("two lengths for a row", _frames((2, 5, 3), (2, 2))),
    Case("no tensor", _without(GOOD_TEXT, 0)),
    Case("no lengths", _without(GOOD_FRAMES, 1)),
    Case("a tensor too many", _frames(more=np.ones((2, 1), np.float32))),
    Case("a tensor twice", _twice(GOOD_TEXT)),
    Case("another tensor's name", _tensor(GOOD_TEXT, name="texts")),
    Case("a tensor without a name", _tensor(GOOD_TEXT, name="")),
    Case("an unknown output", _with(GOOD_TEXT, ("logits",))),
    Case("an output twice", _with(GOOD_TEXT, ("label", "label")), "OK", 200),
    Case("an unknown model", _with(GOOD_TEXT, model_name="nowhere"), "NOT_FOUND", 404),
    Case("a model by way of a path", _with(GOOD_TEXT, model_name="../words"), "NOT_FOUND", 404),
    Case("an unknown version", _with(GOOD_TEXT, model_version="7"), "NOT_FOUND", 404),
    Case("a version of zero", _with(GOOD_TEXT, model_version="0"), "NOT_FOUND", 404),
    Case("a version that is a word", _with(GOOD_TEXT, model_version="newest"), status=404),
    Case("a version below zero", _with(GOOD_TEXT, model_version="-1"), status=404),
    Case("a version of forty digits", _with(GOOD_TEXT, model_version="9" * 40)),
)

_JSON = b'{"inputs":[{"name":"text","shape":[1,1],"datatype":"BYTES","data":["good"]}]}'


def _post(body: bytes, head: str = "") -> bytes:
    start = f"POST /v2/models/words/infer HTTP/1.1\r\nHost: here\r\nContent-Length: {len(body)}\r\n{head}\r\n"
    return start.encode() + body


def _nested(depth: int) -> bytes:
    return _JSON.replace(b'["good"]', b"[" * depth + b'"good"' + b"]" * depth)


HTTP_CASES = {  # bytes on the wire, and the status
    "JSON": (_post(_JSON), 200),
    "half of the JSON": (_post(_JSON[:30]), 500),
    "no object": (_post(b"[]"), 500),
    "UTF-16": (_post(_JSON.decode().encode("utf-16")), 500),
    "a number for a text": (_post(_JSON.replace(b'"good"', b"7")), 500),
    "a word for a shape": (_post(_JSON.replace(b"[1,1]", b'"x"')), 500),
    "a number beyond all": (_post(_JSON.replace(b"[1,1]", b"[1e400,1]")), 500),
    "no data": (_post(_JSON.replace(b',"data":["good"]', b"")), 400),
    "lists in lists": (_post(_nested(200_000)), 200),
    "a hundred thousand empty tensors": (_post(b'{"inputs":[' + b"{}," * 100_000 + b"{}]}"), 400),
    "classes of a truth value": (
        _post(_JSON[:-1] + b',"outputs":[{"name":"valid","parameters":{"classification":2}}]}'),
        400,
    ),
    "a negative header": (_post(_JSON, f"{HEADER}: -5\r\n"), 400),
    "a header beyond the body": (_post(_JSON, f"{HEADER}: 999999\r\n"), 400),
    "an unknown compression": (_post(_JSON, "Content-Encoding: br\r\n"), 501),
    "a million pieces": (
        b"POST /v2/models/words/infer HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"1\r\n{\r\n" * 1_000_000
        + b"0\r\n\r\n",
        500,
    ),
    "pieces and a length": (_post(_JSON, "Transfer-Encoding: chunked\r\n"), CLOSED),
    "a negative length": (_post(_JSON).replace(b"Content-Length: ", b"Content-Length: -"), CLOSED),
    "a length that is a word": (_post(_JSON).replace(b"Content-Length: ", b"Content-Length: x"), CLOSED),
    "a line of 100,000 letters": (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n", CLOSED),
    "a header of a million letters": (b"GET /v2 HTTP/1.1\r\nX: " + b"a" * 1_000_000 + b"\r\n\r\n", CLOSED),
    "the start of TLS": (b"\x16\x03\x01\x02\x00\x01" * 20, CLOSED),
    "the start of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", CLOSED),
    "an escape that is none": (b"GET /v2/models/%zz%/config HTTP/1.1\r\n\r\n", 404),
    "an unknown method": (b"PUT /v2/models/words/infer HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 405),
    "a way out of the tree": (b"GET /v2/../../etc/passwd HTTP/1.1\r\n\r\n", 404),
}


def fuzzed(count: int, seed: int) -> Iterator[tuple[bytes, tuple[str, dict[str, str], bytes]]]:
    """Yield messages for gRPC and for HTTP: the fields of a case drawn anew, and then the bytes of every second."""
    dice = random.Random(seed)  # noqa: S311
    for number in range(count):
        message = Message.FromString(dice.choice(CASES[:2] + CASES[10:]).message.SerializeToString())
        _change_fields(message, dice)
        path, headers, body = to_http(message)
        if number % 2:
            headers[HEADER] = str(int(headers[HEADER]) + dice.choice((-1, 0, 0, 0, 1)))
            yield _changed_bytes(message.SerializeToString(), dice), (path, headers, _changed_bytes(body, dice))
        else:
            yield message.SerializeToString(), (path, headers, body)


def _change_fields(message: Message, dice: random.Random) -> None:
    for tensor, position in zip(message.inputs, range(len(message.raw_input_contents)), strict=False):
        match dice.randrange(8):
            case 0:
                tensor.shape[:] = [
                    dice.choice((-1, 0, 1, 2, 3, 5, 64, 65, 2**31, 2**32 + 1)) for _ in range(dice.randrange(5))
                ]
            case 1:
                tensor.datatype = dice.choice(("BOOL", "INT8", "UINT64", "FP16", "FP32", "INT64", "BYTES", "BF16", "?"))
            case 2:
                message.raw_input_contents[position] = dice.randbytes(dice.randrange(200))
            case 3:
                tensor.name = dice.choice(("text", "features", "lengths", "", "\u00e9", "a" * 1000))
    if dice.random() < 0.1:
        message.model_version = dice.choice(("1", "2", "-1", "x", str(2**64)))
    if dice.random() < 0.1:
        message.outputs.add(name=dice.choice(("label", "valid", "", "nothing")))


def _changed_bytes(content: bytes, dice: random.Random) -> bytes:
    """Flip, drop, repeat and insert a few bytes, or cut the end off."""
    changed = bytearray(content)
    for _ in range(dice.randrange(1, 6)):
        at = dice.randrange(len(changed) + 1)
        match dice.randrange(5):
            case 0 if at < len(changed):
                changed[at] ^= 1 << dice.randrange(8)
            case 1:
                del changed[at : at + dice.randrange(1, 9)]
            case 2:
                changed[at:at] = changed[at : at + dice.randrange(1, 33)]
            case 3:
                changed[at:at] = dice.randbytes(dice.randrange(1, 9))
            case 4:
                del changed[max(at, len(changed) - 64) :]
    return bytes(changed)
