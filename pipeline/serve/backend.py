"""The backend ``onnxruntime`` as the wheel's Triton runs it: a Python-based backend with the C++ backend's manners.

Triton copies nothing of this package: `layout` puts this file and `pipeline.cut` into the backend's folder, beside a
``model.py`` that names the folders of NumPy and ONNX Runtime and imports it. It reads the same ``config.pbtxt`` as the
C++ backend. All requests of one call become one batch, which a processor runs in parts of rows of like length. When a
batch fails each request is answered alone, so that a bad request never fails another caller's. (Out of reach: a request
whose string lengths lie about its bytes, which no client library sends, is refused with its whole batch by Triton's own
Python backend.)
"""

import json
from collections import defaultdict
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

from pipeline.cut import Array, cut, steps_of

Feeds: TypeAlias = dict[str, Array]

MAX_TEXT_BYTES = 64 * 2**20
"""Fixed-width text of one batch: beyond it rows run one by one, so that one long text cannot exhaust the memory."""

LENGTHS = "lengths"
ERRORS_ONLY = 3

TYPES = {
    "TYPE_BOOL": "bool",
    "TYPE_FP16": "float16",
    "TYPE_FP32": "float",
    "TYPE_FP64": "double",
    **{f"TYPE_{sign}INT{bits}": f"{sign.lower()}int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)},
    "TYPE_STRING": "string",
}


class TritonPythonModel:
    """One instance of one version of a model."""

    def initialize(self, arguments: dict[str, str]) -> None:
        """Load the model as the configuration says.

        Raises:
            TritonModelException: the file or the device that the configuration asks for cannot be had, or the
                configuration describes another model.
        """
        self.config: dict[str, Any] = json.loads(arguments["model_config"])
        self.outputs = [output["name"] for output in self.config["output"]]
        self.is_batched = self.config["max_batch_size"] > 0
        self.padded = [
            tensor["name"]
            for tensor in self.config["input"]
            if "reshape" not in tensor and [int(size) for size in tensor["dims"][:1]] == [-1]
        ]
        folder = Path(arguments["model_repository"])
        path = folder / arguments["model_version"] / (self.config["default_model_filename"] or "model.onnx")
        wants_gpu = arguments["model_instance_kind"] == "GPU"
        providers = _providers(int(arguments["model_instance_device_id"])) if wants_gpu else ["CPUExecutionProvider"]
        self.session = self._load(path, providers)
        self._compare("input", self.session.get_inputs())
        self._compare("output", self.session.get_outputs())
        if wants_gpu and "CUDAExecutionProvider" not in self.session.get_providers():
            if _insists_on_gpu(folder):
                raise pb_utils.TritonModelException(NO_CUDA)
            pb_utils.Logger.log_warn(f"{self.config['name']}: no working CUDA provider; the model runs on the CPU.")
        has_fixed_outputs = all(int(size) > 0 for output in self.config["output"] for size in output["dims"])
        is_on_gpu = "CUDAExecutionProvider" in self.session.get_providers()  # where a step takes as long for any rows
        self.is_cut = self.is_batched and has_fixed_outputs and not is_on_gpu

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer the requests of one batch, in their order."""
        feeds = [{tensor.name(): tensor.as_numpy() for tensor in request.inputs()} for request in requests]
        if len(requests) == 1:
            return self._answer(requests, feeds)
        groups = defaultdict(list)
        for number, feed in enumerate(feeds):
            groups[self._kind(feed) if self.is_batched else number].append(number)
        responses: list[Any] = [None] * len(requests)
        for numbers in groups.values():
            answers = self._answer([requests[number] for number in numbers], [feeds[number] for number in numbers])
            for number, answer in zip(numbers, answers, strict=True):
                responses[number] = answer
        return responses

    def _load(self, path: Path, providers: list[Any]) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = ERRORS_ONLY
        options.intra_op_num_threads = self._thread_count("intra_op_thread_count")
        # Its threads would otherwise turn idly after each run, on the cores of other instances, Triton and its callers.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.inter_op_num_threads = self._thread_count("inter_op_thread_count")
        options.enable_cpu_mem_arena = self._parameter("enable_mem_arena", "1") != "0"
        try:
            return onnxruntime.InferenceSession(path, options, providers=providers)
        except Exception as error:
            raise pb_utils.TritonModelException(f"{path}: {error}") from error

    def _compare(self, kind: str, nodes: list[Any]) -> None:
        """Compare the configuration with the graph, as the C++ backend does."""
        there = {node.name: node for node in nodes}
        tensors = {tensor["name"]: tensor for tensor in self.config[kind]}
        unknown = tensors.keys() - there.keys()
        missing = there.keys() - tensors.keys() if kind == "input" else set()
        if unknown or missing:
            raise pb_utils.TritonModelException(
                f"the model has {kind}s {sorted(there)}, the configuration {sorted(tensors)}"
            )
        for name, tensor in tensors.items():
            dims = tensor["reshape"]["shape"] if "reshape" in tensor else tensor["dims"]
            said = [-1] * self.is_batched + [int(size) for size in dims]
            shape = [size if isinstance(size, int) else -1 for size in there[name].shape]
            fits = len(shape) == len(said) and all(size in (-1, dim) for size, dim in zip(shape, said, strict=True))
            if not fits or there[name].type != f"tensor({TYPES.get(tensor['data_type'])})":
                graph, configuration = f"{there[name].type} {shape}", f"{tensor['data_type']} {said}"
                raise pb_utils.TritonModelException(
                    f"{kind} {name}: the model has {graph}, the configuration {configuration}"
                )

    def _parameter(self, name: str, default: str) -> str:
        value: str = self.config["parameters"].get(name, {}).get("string_value", default)
        return value

    def _thread_count(self, name: str) -> int:
        value = self._parameter(name, "0")
        try:
            return max(0, int(value))
        except ValueError as error:
            raise pb_utils.TritonModelException(f"parameter {name}: wanted a whole number, got {value!r}") from error

    def _kind(self, feed: Feeds) -> tuple[Any, ...]:
        """Return what two requests must share to be joined: names, types and shapes without the batch."""
        return tuple(sorted((name, array.dtype.str, array.shape[1:]) for name, array in feed.items()))

    def _answer(self, requests: list[Any], feeds: list[Feeds]) -> list[Any]:
        wanted = [set(request.requested_output_names()) for request in requests]
        names = [name for name in self.outputs if any(name in asked for asked in wanted)]
        try:
            outputs = self._run(names, _join(feeds))
            parts = self._split(outputs, feeds)
        except Exception as error:  # noqa: BLE001  whatever ONNX Runtime raises is the request's answer
            if len(requests) > 1:
                return [self._answer([request], [feed])[0] for request, feed in zip(requests, feeds, strict=True)]
            return [pb_utils.InferenceResponse([], pb_utils.TritonError(str(error)))]
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor(name, part[name]) for name in names if name in asked])
            for asked, part in zip(wanted, parts, strict=True)
        ]

    def _run(self, names: list[str], feed: Feeds) -> Feeds:
        """Run one batch, in parts where that is cheaper; the outputs are in the order of the rows."""
        rows = _rows(feed)
        parts = self._parts(feed, rows) if self.is_batched and rows > 1 else []
        if len(parts) <= 1:
            return self._run_once(names, feed)
        runs = [self._run_once(names, self._take(feed, part)) for part in parts]
        places = np.argsort(np.concatenate(parts))
        return {name: np.concatenate([run[name] for run in runs])[places] for name in names}

    def _run_once(self, names: list[str], feed: Feeds) -> Feeds:
        values = self.session.run(names, {name: _native(array) for name, array in feed.items()})
        for name, array in zip(names, values, strict=True):
            if self.is_batched and (array.ndim == 0 or len(array) != _rows(feed)):
                raise ValueError(f"output {name} has shape {array.shape} for a batch of {_rows(feed)} rows")
        return dict(zip(names, values, strict=True))

    def _parts(self, feed: Feeds, rows: int) -> list[Array]:
        """Return the rows of each run; none or one: all rows in their order."""
        if _text_bytes(feed) > MAX_TEXT_BYTES:
            return list(np.arange(rows)[:, None])
        steps = self._steps(feed, rows) if self.is_cut else None
        if steps is None:
            return []
        order = np.argsort(steps, kind="stable")
        return np.split(order, cut(steps[order]))

    def _steps(self, feed: Feeds, rows: int) -> Array | None:
        """Return how long each row is, or None where that is not known or not so."""
        if LENGTHS in feed and self.padded:
            lengths, (seq, *wider) = feed[LENGTHS].ravel(), {feed[name].shape[1] for name in self.padded}
            is_within = not wider and len(lengths) == rows and lengths.min() >= 1 and lengths.max() <= seq
            return lengths if is_within else None
        (array, *others) = feed.values()
        if others or array.dtype != object or array.size != rows:
            return None
        return steps_of(array.ravel().tolist())

    def _take(self, feed: Feeds, part: Array) -> Feeds:
        """Return some rows, without the padding that none of them needs."""
        taken = {name: array[part] for name, array in feed.items()}
        if LENGTHS in taken:
            longest = taken[LENGTHS].max()
            taken |= {name: taken[name][:, :longest] for name in self.padded}
        return taken

    def _split(self, outputs: Feeds, feeds: list[Feeds]) -> list[Feeds]:
        """Cut each output into the rows of each request."""
        if len(feeds) == 1:
            return [outputs]
        ends = list(accumulate(map(_rows, feeds)))
        return [
            {name: array[start:end] for name, array in outputs.items()}
            for start, end in zip([0, *ends], ends, strict=False)
        ]


NO_CUDA = (
    "the configuration says KIND_GPU, and ONNX Runtime has no working CUDA provider here. Use KIND_AUTO or KIND_CPU."
)


def _providers(device: int) -> list[Any]:
    """Return CUDA and the CPU where this build of ONNX Runtime knows CUDA, else the CPU alone."""
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return ["CPUExecutionProvider"]
    onnxruntime.preload_dlls()  # CUDA's libraries may lie in packages beside it
    return [("CUDAExecutionProvider", {"device_id": device}), "CPUExecutionProvider"]


def _insists_on_gpu(folder: Path) -> bool:
    """Tell KIND_GPU from KIND_AUTO: the configuration that Triton hands over has AUTO already resolved."""
    return "KIND_GPU" in (folder / "config.pbtxt").read_text("utf-8")


def _join(feeds: list[Feeds]) -> Feeds:
    if len(feeds) == 1:
        return feeds[0]
    return {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}


def _rows(feed: Feeds) -> int:
    return len(next(iter(feed.values())))


def _decode(encoded: Array) -> Array:
    """Return the texts of a buffer in which each follows its length, as Triton's own function does."""
    content, texts, end = encoded.tobytes(), [], 0
    while end < len(content):
        start = end + 4
        end = start + int.from_bytes(content[end:start], "little")
        texts.append(content[start:end])
    return np.array(texts, dtype=object)


def _encode(texts: Array) -> bytes:
    """Return the buffer of some texts, as Triton's own function does."""
    contents = [text if isinstance(text, bytes) else str(text).encode() for text in texts.ravel().tolist()]
    return b"".join([part for content in contents for part in (len(content).to_bytes(4, "little"), content)])


# The stub looks these up for each tensor of texts; its own pass through NumPy and `struct` for each text.
pb_utils.deserialize_bytes_tensor, pb_utils.serialize_byte_tensor = _decode, _encode


def _text_bytes(feed: Feeds) -> int:
    """Return the size of the text inputs once every row is as wide as the longest."""
    return sum(array.size * _width(array) for array in feed.values() if array.dtype == object)


def _width(texts: Array) -> int:
    return max(map(len, texts.ravel().tolist()), default=0) + 1


def _native(array: Array) -> Array:
    """Return bytes as the fixed width that ONNX Runtime's binding passes on unread, up to the first NUL.

    One byte wider than the longest text: the binding reads up to a NUL, which the longest must have, too.
    """
    return array.astype(f"S{_width(array)}") if array.dtype == object else array
