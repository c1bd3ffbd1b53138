"""A gRPC server that speaks Triton's protocol and does to each inference what a test's script says."""

import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.serve.tiny_models import CLASSES, text_config

Script = Callable[[int, "Scripted", grpc.ServicerContext], None]


class Scripted(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers every text `good`, after `act` has done to the call what it wants.

    Attributes:
        calls: inferences that have come in; the first has number 1.
        contents: their rows as they came, by number.
        metadata: that of the last one.
        is_over: set when the test is.
        cancelled: set when a caller hangs up on an inference that `wait` holds.
    """

    def __init__(self, act: Script) -> None:
        self.act = act
        self.calls = 0
        self.contents: dict[int, bytes] = {}
        self.metadata: dict[str, str] = {}
        self.is_over, self.cancelled = threading.Event(), threading.Event()
        self._lock = threading.Lock()

    def ModelConfig(self, request, context):  # noqa: ARG002, N802
        return service_pb2.ModelConfigResponse(config=text_config(request.name))

    def ModelInfer(self, request, context):  # noqa: N802
        with self._lock:
            self.calls += 1
            number = self.calls
            self.contents[number] = request.raw_input_contents[0]
        self.metadata = dict(context.invocation_metadata())
        self.act(number, self, context)
        return answer(request.model_name, request.inputs[0].shape[0])

    def wait(self, context: grpc.ServicerContext) -> None:
        """Hold a call until its caller hangs up, or the test is over."""
        context.add_callback(self.cancelled.set)
        while not (self.is_over.wait(0.01) or self.cancelled.is_set()):
            pass


def answer(model: str, rows: int) -> service_pb2.ModelInferResponse:
    response = service_pb2.ModelInferResponse(model_name=model, model_version="1")
    probabilities = np.array([[0.25, 0.0, 0.75]] * rows, np.float32)
    for name, datatype, width, content in (
        ("probabilities", "FP32", len(CLASSES), probabilities.tobytes()),
        ("label", "BYTES", 1, (struct.pack("<I", 4) + b"good") * rows),
        ("valid", "BOOL", 1, b"\1" * rows),
    ):
        response.outputs.add(name=name, datatype=datatype, shape=(rows, width))
        response.raw_output_contents.append(content)
    return response


@contextmanager
def scripted(act: Script) -> Iterator[tuple[Scripted, str]]:
    """Serve for the length of a ``with`` block; give the server, and its host and port."""
    servicer, server = Scripted(act), grpc.server(ThreadPoolExecutor(16))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield servicer, f"127.0.0.1:{port}"
    finally:
        servicer.is_over.set()
        server.stop(None).wait()


def at_once(number: int, server: Scripted, context: grpc.ServicerContext) -> None:
    """Do nothing, so that the answer comes at once."""


def held(number: int, server: Scripted, context: grpc.ServicerContext) -> None:
    """Hold the first call."""
    if number == 1:
        server.wait(context)


def failing(code: grpc.StatusCode, details: str, times: int = 1 << 60) -> Script:
    """Return the script of a server that refuses the first so many calls."""

    def act(number: int, _: Scripted, context: grpc.ServicerContext) -> None:
        if number <= times:
            context.abort(code, details)

    return act
