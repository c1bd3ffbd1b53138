"""How fast a run's model is on a GPU, in process, and how near that is to what the GPU could do at most."""

import contextlib
import copy
import platform
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np
import onnx
import torch

from pipeline import runtime
from pipeline.bench.grown import FULL, Subject, run_subject
from pipeline.bench.roofline import Peaks, bound, work
from pipeline.capacity import Network
from pipeline.errors import PipelineError
from pipeline.export.lower import lowered
from pipeline.reference import Reference
from pipeline.run_directory import RunDirectory
from pipeline.runtime import CPU, CUDA, open_session

Progress = Callable[[str], None]
Cell = tuple[int, int]  # rows, tokens
Request = tuple[dict[str, np.ndarray], dict[str, torch.Tensor]]  # as ONNX Runtime takes it, as PyTorch does
Way = Callable[[dict[str, np.ndarray], dict[str, torch.Tensor]], np.ndarray]  # gives probabilities, (B, C)

PRECISIONS = {"cuda": ("fp32", "tf32", "fp16"), "cpu": ("fp32",)}
BYTES = {"fp32": 4, "tf32": 4, "fp16": 2}
BATCHES = (1, 8, 64, 512)
LENGTHS = (16, 64, 256)
_MATRIX = {"cuda": 8192, "cpu": 512}  # rows and columns
_COPY = {"cuda": 2**30, "cpu": 2**25}  # bytes
_PEAK_ROUNDS = 10


def bench_gpu(
    run: RunDirectory,
    *,
    device: str = "cuda",
    batches: Sequence[int] = BATCHES,
    lengths: Sequence[int] = LENGTHS,
    rounds: int = 5,
    progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Answer batches of several lengths in ONNX Runtime and in PyTorch, in each precision, in turn.

    ONNX Runtime is given raw text and splits it on the processor, PyTorch is given token ids; both give probabilities
    on the host. The roofline is that of the recurrent layers alone.

    Args:
        run: an exported run.
        device: ``cuda``; ``cpu`` goes the same way without one, for tests.
        batches: rows.
        lengths: tokens; longer than the model's longest are left out.
        rounds: of everything; the best one counts.
        progress: told what is measured.

    Returns:
        The device's ``peaks`` in each precision; of each measurement its seconds, texts and tokens a second and the
        roofline's; ``difference``, how far each way's probabilities are from PyTorch's float32; what was ``skipped``.

    Raises:
        PipelineError: there is no CUDA device.
        RunError: the run is not whole, or not exported.
    """
    if device == "cuda" and not torch.cuda.is_available():
        built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
        raise PipelineError(
            f"bench gpu: PyTorch {torch.__version__}, built {built}, sees no CUDA device. Run it on a machine with a "
            "GPU, and there install a PyTorch for its CUDA."
        )
    reference = Reference.load(run)
    subject = run_subject(reference, FULL)
    peaks = {}
    for precision in PRECISIONS[device]:
        progress(f"peaks of the device: {precision}")
        peaks[precision] = measured_peaks(device, precision)
    ways, skipped = _ways(reference, subject, device)
    longest = reference.recipe.tokenizer.max_tokens if reference.tokenizer else max(lengths)
    cells = [(B, T) for T in lengths if longest >= T for B in batches]
    requests = {cell: _request(reference, subject, *cell) for cell in cells}
    seconds, difference = _measured(ways, requests, rounds, progress)
    return {
        "format": 1,
        "date": datetime.now(UTC).date().isoformat(),
        "run": run.path.name,
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine(),
        "pytorch": torch.__version__,
        "onnxruntime": runtime.VERSION,
        "network": asdict(subject.network),
        "peaks": {precision: asdict(peak) for precision, peak in peaks.items()},
        "difference": difference,
        "skipped": skipped,
        "measurements": [
            _entry(subject.network, name, cell, min(times), peaks[name.split()[1]])
            for (name, cell), times in seconds.items()
        ],
    }


def record_name(record: dict[str, Any]) -> str:
    """Return the name of a record's file: its date, device and run."""
    device = "-".join(re.findall(r"[a-z0-9]+", record["device"].lower()))
    return f"{record['date']}-{device}-{record['run']}.json"


def measured_peaks(device: str, precision: str) -> Peaks:
    """Multiply two large matrices, and copy a large tensor; the best of some rounds each."""
    dtype = torch.float16 if precision == "fp16" else torch.float32
    size = _MATRIX[device]
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    source = torch.ones(_COPY[device], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    with _arithmetic(precision):
        product = min(_timed(lambda: left @ right, device) for _ in range(_PEAK_ROUNDS))
    copied = min(_timed(lambda: target.copy_(source), device) for _ in range(_PEAK_ROUNDS))
    return Peaks(2 * size**3 / product, 2 * source.numel() / copied)  # a copy reads and writes


def _timed(action: Callable[[], Any], device: str) -> float:
    _wait(device)
    start = time.perf_counter()
    action()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


@contextlib.contextmanager
def _arithmetic(precision: str) -> Iterator[None]:
    """Let float32 products be rounded to TF32, or not, in cuBLAS and in cuDNN's recurrent layers alike."""
    settings: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn.rnn)
    before = [setting.fp32_precision for setting in settings]
    for setting in settings:
        setting.fp32_precision = "tf32" if precision == "tf32" else "ieee"
    try:
        yield
    finally:
        for setting, value in zip(settings, before, strict=True):
            setting.fp32_precision = value


def _ways(reference: Reference, subject: Subject, device: str) -> tuple[dict[str, Way], dict[str, str]]:
    """Return what can be measured here, PyTorch's float32 first, and why the rest cannot."""
    ways: dict[str, Way] = {}
    skipped = {}
    for precision in PRECISIONS[device]:
        ways[f"pytorch {precision}"] = _pytorch(reference, device, precision)
        try:
            ways[f"onnxruntime {precision}"] = _onnxruntime(subject, device, precision)
        except PipelineError as error:
            skipped[f"onnxruntime {precision}"] = str(error)
    return ways, skipped


def _pytorch(reference: Reference, device: str, precision: str) -> Way:
    model = copy.deepcopy(reference.model).to(device)
    model = model.half() if precision == "fp16" else model

    def answer(_: object, tensors: dict[str, torch.Tensor]) -> np.ndarray:
        inputs = tensors["inputs"].to(device)
        inputs = inputs.half() if precision == "fp16" and inputs.is_floating_point() else inputs
        with torch.inference_mode(), _arithmetic(precision):
            logits = model(inputs, tensors["lengths"].to(device))
            return torch.softmax(logits.float(), 1).cpu().numpy()

    return answer


def _onnxruntime(subject: Subject, device: str, precision: str) -> Way:
    """Open the exported model.

    Raises:
        PipelineError: ONNX Runtime cannot run it on this device.
    """
    content = subject.content
    if precision == "fp16":
        content = lowered(onnx.load_from_string(content), "fp16", {}).SerializeToString()
    session = open_session(content, CUDA if device == "cuda" else CPU, tf32=precision == "tf32")

    def answer(feed: dict[str, np.ndarray], _: object) -> np.ndarray:
        return session.run(["probabilities"], feed)[0]  # type: ignore[no-any-return]

    return answer


def _request(reference: Reference, subject: Subject, rows: int, tokens: int) -> Request:
    """Return the same rows as ONNX Runtime takes them and as PyTorch does."""
    _, feed = subject.request(rows, tokens)
    if reference.tokenizer is None:
        inputs, lengths = feed["features"], feed["lengths"][:, 0]
    else:
        texts = [text.decode() for text in feed["text"][:, 0].tolist()]
        inputs, lengths = reference.tokenizer.encode(texts).padded(np.arange(rows))
    return feed, {"inputs": torch.from_numpy(inputs), "lengths": torch.from_numpy(lengths)}


def _measured(
    ways: dict[str, Way], requests: dict[Cell, Request], rounds: int, progress: Progress
) -> tuple[dict[tuple[str, Cell], list[float]], dict[str, float]]:
    """Return the seconds of each way and request, and how far its probabilities are from the first way's."""
    seconds: dict[tuple[str, Cell], list[float]] = {(name, cell): [] for cell in requests for name in ways}
    difference = dict.fromkeys(ways, 0.0)
    for number in range(rounds + 1):
        progress(f"round {number} of {rounds}" if number else "warm-up")
        for cell, request in requests.items():
            answers = {}
            for name, way in ways.items():
                start = time.perf_counter()
                answers[name] = way(*request)
                if number:
                    seconds[name, cell].append(time.perf_counter() - start)
            first = next(iter(answers.values()))
            for name, answer in answers.items():
                worst = np.maximum(difference[name], np.abs(answer - first).max())  # NaN if there is one
                difference[name] = float(worst)
    return seconds, difference


def _entry(network: Network, way: str, cell: Cell, seconds: float, peaks: Peaks) -> dict[str, Any]:
    """Return a measurement beside the roofline of its precision."""
    rows, tokens = cell
    call = work(network, rows, tokens, BYTES[way.split()[1]])
    least = bound(call, peaks)
    return {
        "way": way,
        "rows": rows,
        "tokens": tokens,
        "seconds": seconds,
        "texts_per_second": rows / seconds,
        "tokens_per_second": rows * tokens / seconds,
        "work": asdict(call),
        "roofline": asdict(least),
        "roofline_share": least.seconds / seconds,
    }
