"""How long `pipeline verify` takes over the whole held-out split, beside the bare inference of both its sides."""

import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.reference import Reference
from pipeline.run_directory import RunDirectory
from pipeline.runtime import open_session
from pipeline.sequences import Sequences
from pipeline.verify import cases, checks
from pipeline.verify.engines import OnnxEngine, TorchEngine
from pipeline.verify.named import CANDIDATE, tolerance


def bench_verification(
    run: RunDirectory, data: Path | None = None, *, repeats: int = 3, progress: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Time the check ``held-out rows`` and the bare inference of both sides, interleaved.

    Bare is what anyone would write: rows that lie in memory, sorted by length, in batches of the size that is served,
    from text or frames to probabilities, nothing compared or kept. The check reads the rows too.

    Args:
        run: an exported run.
        data: the data set, where it is no longer in the place it was trained from.
        repeats: of all ways, in turn, after a warm-up.
        progress: told what is measured.

    Returns:
        ``seconds`` of each way, one figure a repeat; ``ratios``, one a repeat: the check's time as a multiple of both
        bare ones'.

    Raises:
        RunError: the run is not whole.
        DataError: the data set is missing, damaged, or another one.
        PipelineError: the model does not load.
    """
    reference = Reference.load(run)
    dataset, interface = reference.dataset(data), reference.signature.interface
    largest = reference.recipe.publish.max_batch_size
    batches = [batch.rows for batch in cases.held_out(dataset, interface, largest)]
    session = open_session(run.require("model.onnx"))

    def pytorch() -> None:
        for rows in batches:
            encoded = reference.tokenizer.encode(rows) if reference.tokenizer else Sequences.join(rows)
            reference.probabilities(encoded)

    def onnxruntime() -> None:
        for rows in batches:
            session.run(["probabilities"], _feed(rows, interface))

    def verify() -> None:
        asked = cases.held_out(dataset, interface, largest)
        checks.parity("held-out rows", TorchEngine(reference), OnnxEngine(session), asked, tolerance(CANDIDATE))

    ways = {"pytorch": pytorch, "onnxruntime": onnxruntime, "verify": verify}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(repeats + 1):
        for name, way in ways.items():
            progress(f"repeat {number} of {repeats}: {name}" if number else f"warm-up: {name}")
            start = time.perf_counter()
            way()
            if number:
                seconds[name].append(time.perf_counter() - start)
    ratios = [check / (torch + ort) for torch, ort, check in zip(*seconds.values(), strict=True)]
    return {
        "seconds": seconds,
        "ratios": ratios,
        "ratio": statistics.median(ratios),
        "rows": sum(map(len, batches)),
        "batch_size": largest,
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
    }


def _feed(rows: list[Any], interface: str) -> dict[str, np.ndarray]:
    if interface == "text":
        return {"text": np.array(rows, dtype=object)[:, None]}
    features, lengths = Sequences.join(rows).padded(np.arange(len(rows)))
    return {"features": features, "lengths": lengths[:, None]}
