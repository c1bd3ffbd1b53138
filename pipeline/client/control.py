"""Questions and orders to a running Triton: which models it has, whether each really answers, what to load."""

from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from pipeline.client.access import Access, fault, said
from pipeline.client.closing import Closing
from pipeline.errors import RequestError

CANARY_ID = "pipeline-canary"
CANARY_TEXT = b"ready?"
NUMPY_TYPES = {
    "BOOL": np.bool_,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}
BUSY_CODES = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)


class Busy(RequestError):
    """No answer in time, or the queue is full: the server may be dead, or have too much to do."""


@dataclass(frozen=True)
class Work:
    """What a server has done for a model since it was loaded; one may be taken from a later one.

    Attributes:
        requests: answered well.
        rows: in them.
        batches: how often the model was run.
        queue_seconds: that requests waited for an instance, added up.
        compute_seconds: that their batches took, added up over requests.
        rows_of_batches: how many batches had so many rows; empty where the backend does not say.
    """

    requests: int
    rows: int
    batches: int
    queue_seconds: float
    compute_seconds: float
    rows_of_batches: dict[int, int]

    def __sub__(self, earlier: "Work") -> "Work":
        before = earlier.rows_of_batches
        since = {rows: count - before.get(rows, 0) for rows, count in self.rows_of_batches.items()}
        return Work(
            self.requests - earlier.requests,
            self.rows - earlier.rows,
            self.batches - earlier.batches,
            self.queue_seconds - earlier.queue_seconds,
            self.compute_seconds - earlier.compute_seconds,
            {rows: count for rows, count in since.items() if count},
        )


class Control(Closing):
    """A gRPC connection to one started server.

    Args:
        url: host and gRPC port of the server.
        access: how to reach it.
    """

    def __init__(self, url: str, access: Access | None = None) -> None:
        self._access = access or Access()
        self._channel = self._access.channel(url)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def close(self) -> None:
        """Hang up."""
        self._channel.close()

    def versions(self, timeout_seconds: float = 5) -> dict[str, tuple[int, ...]]:
        """Return each model in service with the versions that are ready."""
        ready: dict[str, list[int]] = {}
        for entry in self._index(timeout_seconds):
            if entry.state == "READY":
                ready.setdefault(entry.name, []).append(int(entry.version))
        return {name: tuple(sorted(numbers)) for name, numbers in sorted(ready.items())}

    def failures(self, timeout_seconds: float = 5) -> dict[str, str]:
        """Return Triton's reason for each model that could not be loaded."""
        return {
            entry.name: _one_line(entry.reason)
            for entry in self._index(timeout_seconds)
            if entry.state == "UNAVAILABLE" and entry.reason != "unloaded"  # which was asked for
        }

    def ask(self, model: str, timeout_seconds: float) -> None:
        """Send one real inference and wait for the answer.

        Raises:
            RequestError: the model refused it.
            Busy: it did not answer in time.
        """
        self._call("ModelInfer", canary(self.config(model, timeout_seconds)), timeout_seconds)

    def answered(self, model: str, timeout_seconds: float = 5) -> int:
        """Return how many requests a model has answered well, in all its versions."""
        return sum(self.statistics(model, timeout_seconds).values())

    def load(self, model: str, timeout_seconds: float) -> None:
        """Load a model's newest version; the version in service stays until the new one is ready.

        Raises:
            RequestError: it could not be loaded; the old version is still in service.
        """
        self._call("RepositoryModelLoad", service_pb2.RepositoryModelLoadRequest(model_name=model), timeout_seconds)

    def unload(self, model: str, timeout_seconds: float) -> None:
        """Take a model out of service."""
        self._call("RepositoryModelUnload", service_pb2.RepositoryModelUnloadRequest(model_name=model), timeout_seconds)

    def config(self, model: str, timeout_seconds: float = 5) -> model_config_pb2.ModelConfig:
        """Return a model's configuration as the server resolved it."""
        return self._call("ModelConfig", service_pb2.ModelConfigRequest(name=model), timeout_seconds).config

    def statistics(self, model: str, timeout_seconds: float = 5) -> dict[int, int]:
        """Return how many requests each loaded version of a model has answered well."""
        items = self._statistics(model, timeout_seconds)
        return {int(item.version): item.inference_stats.success.count for item in items}

    def work(self, model: str, timeout_seconds: float = 5) -> Work:
        """Return what all loaded versions of a model have done."""
        items = self._statistics(model, timeout_seconds)
        stats = [item.inference_stats for item in items]
        steps = ("compute_input", "compute_infer", "compute_output")
        rows_of_batches: dict[int, int] = {}
        for batch in (batch for item in items for batch in item.batch_stats):
            size = int(batch.batch_size)
            rows_of_batches[size] = rows_of_batches.get(size, 0) + int(batch.compute_infer.count)
        return Work(
            requests=sum(one.success.count for one in stats),
            rows=sum(item.inference_count for item in items),
            batches=sum(item.execution_count for item in items),
            queue_seconds=sum(one.queue.ns for one in stats) / 1e9,
            compute_seconds=sum(getattr(one, step).ns for one in stats for step in steps) / 1e9,
            rows_of_batches=dict(sorted(rows_of_batches.items())),
        )

    def _statistics(self, model: str, timeout_seconds: float) -> Any:
        request = service_pb2.ModelStatisticsRequest(name=model)
        return self._call("ModelStatistics", request, timeout_seconds).model_stats

    def _index(self, timeout_seconds: float) -> Any:
        return self._call("RepositoryIndex", service_pb2.RepositoryIndexRequest(), timeout_seconds).models

    def _call(self, method: str, request: Any, timeout_seconds: float) -> Any:
        try:
            return getattr(self._stub, method)(request, timeout=timeout_seconds, metadata=self._access.metadata)
        except grpc.RpcError as error:
            kind = Busy if error.code() in BUSY_CODES else RequestError
            raise kind(fault(said(error)) or _one_line(error.details() or error.code().name)) from error


def canary(config: model_config_pb2.ModelConfig) -> service_pb2.ModelInferRequest:
    """Return a small real request for a model: a short text, or zeros of length one; counts and ids are one."""
    request = service_pb2.ModelInferRequest(model_name=config.name, id=CANARY_ID)
    for tensor in config.input:
        kind = model_config_pb2.DataType.Name(tensor.data_type).removeprefix("TYPE_")
        shape = [1] * (config.max_batch_size > 0) + [max(1, size) for size in tensor.dims]
        datatype = "BYTES" if kind == "STRING" else kind
        request.inputs.add(name=tensor.name, datatype=datatype, shape=shape)
        request.raw_input_contents.append(_content(kind, int(np.prod(shape))))
    return request


def _content(kind: str, size: int) -> bytes:
    if kind == "STRING":
        return (len(CANARY_TEXT).to_bytes(4, "little") + CANARY_TEXT) * size
    numbers = np.ones if kind.startswith(("INT", "UINT")) else np.zeros
    return numbers(size, NUMPY_TYPES[kind]).tobytes()


def _one_line(text: str) -> str:
    """Return Triton's reason without the Python backend's traceback and the words that say nothing."""
    reason = text.partition("\n\nAt:\n")[0].replace("Internal: TritonModelException: ", "")
    return " ".join(reason.split())
