"""Callers that never stop asking, and a record of what became of every call."""

import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from threading import Event, Semaphore, Thread
from typing import Any, Self

import grpc
import numpy as np
from tritonclient.grpc import service_pb2

from pipeline.client.access import Access
from pipeline.client.control import NUMPY_TYPES

INFER = "/inference.GRPCInferenceService/ModelInfer"
DATATYPES = {np.dtype(kind): name for name, kind in NUMPY_TYPES.items()}
PAUSE_SECONDS = 0.02  # after a refusal, so that callers of a dead server leave the processors to its successor


def request(model: str, **inputs: np.ndarray) -> service_pb2.ModelInferRequest:
    """Write a request; texts are arrays of bytes objects."""
    message = service_pb2.ModelInferRequest(model_name=model)
    for name, array in inputs.items():
        message.inputs.add(name=name, datatype=DATATYPES.get(array.dtype, "BYTES"), shape=array.shape)
        message.raw_input_contents.append(content_of(array))
    return message


def content_of(array: np.ndarray) -> bytes:
    if array.dtype != object:
        return array.tobytes()
    return b"".join(len(text).to_bytes(4, "little") + text for text in array.ravel())


def outputs_of(content: bytes) -> dict[str, bytes]:
    """The output tensors of an answer, to be compared bit for bit."""
    answer = service_pb2.ModelInferResponse.FromString(content)
    return dict(zip((output.name for output in answer.outputs), answer.raw_output_contents, strict=True))


@dataclass(frozen=True)
class Call:
    """One call and what became of it; times are of the monotonic clock.

    Attributes:
        caller: whose call.
        answer: of an answered one, its outputs.
    """

    caller: int
    begun: float
    ended: float
    code: grpc.StatusCode
    answer: dict[str, bytes] = field(default_factory=dict)
    reason: str = ""

    @property
    def seconds(self) -> float:
        return self.ended - self.begun

    @property
    def is_answered(self) -> bool:
        return self.code == grpc.StatusCode.OK


class Callers:
    """Threads that ask the same for the length of a ``with`` block, each one call after the other."""

    def __init__(self, url: str, count: int, message: service_pb2.ModelInferRequest, deadline_seconds: float) -> None:
        self.calls: list[Call] = []
        self._url, self._deadline_seconds = url, deadline_seconds
        self._content = message.SerializeToString()
        self._stop = Event()
        self._threads = [Thread(target=self._ask, args=(number,)) for number in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def answered_since(self, moment: float) -> list[Call]:
        """The calls that began after a moment and were answered."""
        return [call for call in tuple(self.calls) if call.begun > moment and call.is_answered]

    def _ask(self, number: int) -> None:
        with Access().channel(self._url) as channel:
            infer = channel.unary_unary(INFER)
            while not self._stop.is_set():
                call = timed(number, infer.future(self._content, timeout=self._deadline_seconds), time.monotonic())
                self.calls.append(call)
                if not call.is_answered:
                    self._stop.wait(PAUSE_SECONDS)


def timed(caller: int, future: Any, begun: float) -> Call:
    """Wait for a call's end."""
    try:
        answer = future.result()
    except grpc.RpcError as error:
        return Call(caller, begun, time.monotonic(), error.code(), reason=error.details() or "")
    return Call(caller, begun, time.monotonic(), grpc.StatusCode.OK, outputs_of(answer))


def ask_in_turn(url: str, messages: list[service_pb2.ModelInferRequest], count: int, at_once: int) -> list[Counter]:
    """Ask one message after the other, over and over, some at once; return what became of each message's calls.

    An answer counts as the label that it gives.
    """
    contents = [message.SerializeToString() for message in messages]
    became: list[Counter] = [Counter() for _ in messages]
    free = Semaphore(at_once)

    def end(future: Any, number: int) -> None:
        call = timed(0, future, 0)
        became[number][call.answer["label"] if call.is_answered else call.code.name] += 1
        free.release()

    with Access().channel(url) as channel:
        infer = channel.unary_unary(INFER)
        for turn in range(count):
            number = turn % len(messages)
            free.acquire()
            infer.future(contents[number], timeout=60).add_done_callback(partial(end, number=number))
        for _ in range(at_once):
            free.acquire()
    return became


def ask_at_a_rate(
    url: str, message: service_pb2.ModelInferRequest, per_second: float, seconds: float, deadline_seconds: float
) -> list[Call]:
    """Begin calls at a steady rate, however long the earlier ones take, and return them once all have ended."""
    content, calls, ended = message.SerializeToString(), [], Semaphore(0)

    def end(future: Any, begun: float) -> None:
        calls.append(timed(0, future, begun))
        ended.release()

    with Access().channel(url) as channel:
        infer = channel.unary_unary(INFER)
        start = time.monotonic()
        count = int(per_second * seconds)
        for number in range(count):
            time.sleep(max(0.0, start + number / per_second - time.monotonic()))  # the pace itself
            begun = time.monotonic()
            infer.future(content, timeout=deadline_seconds).add_done_callback(partial(end, begun=begun))
        for _ in range(count):
            ended.acquire()
    return calls
