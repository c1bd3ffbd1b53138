"""How fast an exported model and its variants answer in process, beside PyTorch and OpenVINO with the same weights."""

import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.bench.classifiers import FP32, OPENVINO, PYTORCH, from_text, from_tokens, import_openvino, padded
from pipeline.encoding import encode
from pipeline.errors import UsageError
from pipeline.gate import rows_of
from pipeline.reference import Reference
from pipeline.run_directory import RunDirectory
from pipeline.runtime import VERSION

Engines = Mapping[str, Callable[[Any], np.ndarray]]


def bench_engines(
    run: RunDirectory,
    data: Path | None = None,
    *,
    sizes: Sequence[int] = (1, 32),
    rows: int = 128,
    repeats: int = 5,
    threads: int = 1,
    openvino: bool = False,
    cpu_time: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Ask every engine the same batches of held-out texts; they take turns at each batch.

    From texts, everything counts: PyTorch and OpenVINO read token ids from the run's own tokenizer graph, which ONNX
    Runtime runs for them. From token ids, all get the same arrays. Batches are ``drawn``, or of ``similar`` length.

    Args:
        run: an exported text run.
        data: the data set, where it is no longer in the place it was trained from.
        sizes: of batches; a case has the size that there were rows for.
        rows: drawn from the test split to be timed.
        repeats: of all batches.
        threads: of each engine; 0 for as many as it takes by itself.
        openvino: ask OpenVINO too.
        cpu_time: count the seconds in which this process ran, which a busy machine hardly changes; with one thread.
        progress: told what is measured.

    Returns:
        ``cases``: for each way in, batch size and order the ``rows_per_second`` of each engine, one figure a repeat,
        the ``ratios`` to PyTorch's and to OpenVINO's; ``agreement``: over the whole test split in drawn batches of the
        largest size, how many labels differ from full precision and the accuracy.

    Raises:
        UsageError: the run reads features, the model has no plain PyTorch form, or CPU time of several threads.
        RunError: the run is not whole.
        DataError: the data set is missing, damaged, or another one.
        PipelineError: OpenVINO is not installed.
    """
    if cpu_time and threads != 1:
        raise UsageError(f"--cpu-time: got {threads} threads; only one thread's CPU time is how long an answer takes.")
    if openvino:
        import_openvino()
    clock = time.process_time if cpu_time else time.perf_counter
    reference = Reference.load(run)
    if reference.tokenizer is None:
        raise UsageError(f"{run.path}: reads features; bench engines compares text models.")
    split = reference.dataset(data).split("test")
    texts, sequences = rows_of(split, "text"), encode(split, reference.tokenizer)
    drawn = np.random.default_rng(0).permutation(len(split))[:rows]
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        tokens = from_tokens(reference, threads, openvino=openvino)
        whole = from_text(reference, threads, tokens)
        cases = []
        for size in sizes:
            for order, batches in _orders(sequences.lengths, drawn, size).items():
                progress(f"batches of {size}, {order}")
                asked: dict[str, tuple[Engines, list[Any]]] = {
                    "text": (whole, [[texts[row] for row in batch] for batch in batches]),
                    "tokens": (tokens, [padded(sequences, batch) for batch in batches]),
                }
                for level, (engines, asking) in asked.items():
                    rates = _rates(engines, asking, len(drawn), repeats, clock)
                    cases.append({"from": level, "batch_size": len(batches[0]), "order": order} | _compared(rates))
        progress("labels of the whole test split")
        everything = np.random.default_rng(1).permutation(len(split))
        questions = [padded(sequences, batch) for batch in _cut(everything, max(sizes))]
        agreement = dict(_agreement(tokens, questions, np.asarray(split.labels)[everything]))
    finally:
        torch.set_num_threads(before)
    return {
        "cases": cases,
        "agreement": agreement,
        "rows": len(drawn),
        "mean_tokens": float(sequences.lengths[drawn].mean()),
        "threads": threads,
        "clock": clock.__name__,
        "versions": {"torch": torch.__version__, "onnxruntime": VERSION}
        | ({OPENVINO: str(import_openvino().__version__)} if openvino else {}),
        "processor": torch.cpu.get_capabilities().get("cpu_name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
    }


def _orders(lengths: np.ndarray, drawn: np.ndarray, size: int) -> dict[str, list[np.ndarray]]:
    """Return the same drawn rows in batches as they were drawn and by length; alone they have no company to choose."""
    orders = {"drawn": _cut(drawn, size)}
    if size > 1:
        orders["similar"] = _cut(drawn[np.argsort(lengths[drawn], kind="stable")], size)
    return orders


def _cut(order: np.ndarray, size: int) -> list[np.ndarray]:
    return [order[start : start + size] for start in range(0, len(order), size)]


def _rates(
    engines: Engines, questions: Sequence[Any], rows: int, repeats: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Return each engine's rows a second in each repeat, after one round that is not timed."""
    rates: dict[str, list[float]] = {name: [] for name in engines}
    for number in range(repeats + 1):
        seconds = dict.fromkeys(engines, 0.0)
        for question in questions:
            for name, answer in engines.items():
                start = clock()
                answer(question)
                seconds[name] += clock() - start
        for name in engines if number else ():
            rates[name].append(rows / seconds[name])
    return rates


def _compared(rates: dict[str, list[float]]) -> dict[str, Any]:
    """Return the rates and their ratios, repeat by repeat, to those of PyTorch and OpenVINO."""
    others = [name for name in (PYTORCH, OPENVINO) if name in rates]
    ratios = {
        other: {name: [a / b for a, b in zip(rates[name], rates[other], strict=True)] for name in rates}
        for other in others
    }
    return {"rows_per_second": rates, "ratios": ratios}


def _agreement(
    engines: Engines, questions: Sequence[Any], labels: np.ndarray
) -> Iterator[tuple[str, dict[str, float]]]:
    given = {name: np.concatenate([answer(question) for question in questions]) for name, answer in engines.items()}
    for name, answers in given.items():
        differ = int((answers != given[FP32]).sum())
        yield name, {"rows": len(labels), "differ": differ, "accuracy": float((answers == labels).mean())}
