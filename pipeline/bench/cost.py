"""Measure what a run's model costs on this machine, and fit the prices that `pipeline doctor --plan` plans with.

Calls of a grid of batches × lengths × threads are timed, of the run's model and, for the growth, of untrained ones of
other sizes. A third of the run's calls and one of the other models are held out: the prices are fitted without them and
checked on them.
"""

import multiprocessing
import os
import platform
import statistics
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import runtime
from pipeline.bench.calls import Timed, crowding, time_calls
from pipeline.bench.grown import FULL, RUN, Size, Subject, grown, run_subject
from pipeline.capacity import Call, errors, fitted, memory_terms, time_terms
from pipeline.capacity.cost import FORMAT, Prices
from pipeline.encoding import encode
from pipeline.errors import PipelineError
from pipeline.reference import Reference
from pipeline.run_directory import RunDirectory
from pipeline.runtime import CPU, CUDA, has_cuda_driver, resident_bytes

Progress = Callable[[str], None]
Terms = dict[str, float]
HELD_OUT = "held out"
SIZES = (Size("narrow", 1 / 2, 1 / 4), Size("wide", 2, 1 / 2), Size(HELD_OUT, 3 / 2, 3 / 4))
LENGTHS = 5
SHORTEST = 4
MEMORY_TOKENS = 128
MOST_THREADS = 8  # of a session: each number of them takes as long to measure
SAMPLE = 2000  # rows of the data set whose lengths are looked at


def bench_cost(
    run: RunDirectory,
    data: Path | None = None,
    *,
    variant: str = FULL,
    provider: str = CPU,
    rounds: int = 5,
    progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Measure and fit.

    Args:
        run: an exported run.
        data: its data set, if it was moved: the lengths of its validation split are those that a plan assumes.
        variant: the model to measure: ``fp32``, ``int8`` or ``fp16``.
        provider: ONNX Runtime's; on CUDA a machine's GPU counts as its one core, and memory is still the host's.
        rounds: of all calls, in turn.
        progress: told what is measured.

    Returns:
        What ``cost.json`` holds: see `pipeline.capacity.Cost`; the errors on what was held out; all measurements.

    Raises:
        PipelineError: the model does not load on this provider, or memory cannot be measured here.
        RunError: the run is not whole, or not exported in this variant.
        UsageError: its data set is not where it was.
    """
    if provider == CUDA and not has_cuda_driver():
        raise PipelineError(
            "bench cost: this machine has no CUDA driver. Run it on one with a GPU, or with --device cpu."
        )
    reference = Reference.load(run)
    lengths, bytes_per_token = _lengths(reference, data)
    subjects = [run_subject(reference, variant)]
    for size in SIZES:
        progress(f"an untrained model: {size.name}")
        subjects.append(grown(reference, variant, size))
    cores = len(os.sched_getaffinity(0)) if provider == CPU else 1
    threads = [2**power for power in range(min(cores, MOST_THREADS).bit_length())]
    largest = reference.recipe.publish.max_batch_size
    timed = time_calls(subjects, grid(int(lengths.max()), largest), threads, provider, rounds, progress)
    progress("memory, and all cores at once")
    return {
        "format": FORMAT,
        "date": datetime.now(UTC).date().isoformat(),
        "name": run.info["name"],
        "variant": variant,
        "onnxruntime": runtime.VERSION,
        "provider": provider,
        "processor": platform.processor() or platform.machine(),
        "cores": cores,
        "network": asdict(subjects[0].network),
        **_time_model(timed),
        **_memory_model(subjects, provider, min(MEMORY_TOKENS, int(lengths.max()))),
        "crowding": crowding(subjects[0], cores, rounds) if cores > 1 else 1.0,
        "lengths": np.quantile(lengths, np.linspace(0, 1, 101), method="higher").tolist(),
        "bytes_per_token": bytes_per_token,
        "max_tokens": reference.recipe.tokenizer.max_tokens if reference.tokenizer else 0,
        "max_batch_size": largest,
        "noise": statistics.median(statistics.median(one.seconds) / one.best for one in timed),
        "measurements": [
            {"model": one.subject.name, "threads": one.threads, **asdict(one.call), "seconds": one.best}
            for one in timed
        ],
    }


def _lengths(reference: Reference, data: Path | None) -> tuple[np.ndarray, float]:
    """Return the tokens of some of the run's texts, and the bytes of a token."""
    split = reference.dataset(data).split("validation")
    sample = split.take(np.sort(np.random.default_rng(0).permutation(len(split))[:SAMPLE]))
    lengths = encode(sample, reference.tokenizer).lengths
    if reference.tokenizer is None:
        return lengths, 0.0
    return lengths, sum(len(text.encode()) for text in sample.texts()) / int(lengths.sum())


def grid(longest: int, largest_batch: int) -> list[tuple[int, int]]:
    """Return batches × lengths, (B, T), evenly on a scale of ratios."""
    tokens = np.unique(np.geomspace(min(SHORTEST, longest), longest, LENGTHS).round().astype(int)).tolist()
    return [(B, T) for B in _batches(largest_batch) for T in tokens]


def _batches(largest: int) -> list[int]:
    return [4**power for power in range(largest.bit_length()) if 4**power < largest] + [largest]


def _time_model(timed: Sequence[Timed]) -> dict[str, Any]:
    """Fit the prices of each number of threads; return them, and how well they predict what they never saw."""
    found: dict[str, Any] = {"seconds": {}, "missed": {}, "held_out": {}}
    for threads in sorted({one.threads for one in timed}):
        mine = [one for one in timed if one.threads == threads]
        own = [one for one in mine if one.subject.name == RUN]
        unseen = {"calls": own[1::3], "model": [one for one in mine if one.subject.name == HELD_OUT]}
        seen = [one for one in mine if one not in unseen["calls"] and one not in unseen["model"]]
        prices = fitted(*_costs(seen))
        found["seconds"][str(threads)] = prices
        for name, some in unseen.items():
            found["held_out"][f"{name}, {threads} thread(s)"] = errors(prices, *_costs(some))
        found["missed"][str(threads)] = found["held_out"][f"calls, {threads} thread(s)"]["median"]
    return found


def _costs(timed: Sequence[Timed]) -> tuple[list[Terms], list[float]]:
    return [time_terms(one.subject.network, one.call) for one in timed], [one.best for one in timed]


def _memory_model(subjects: Sequence[Subject], provider: str, tokens: int) -> dict[str, Any]:
    """Measure each model in a process of its own, fit without the held-out one, and check on it."""
    before: list[int] = []
    seen: tuple[list[Terms], list[float]] = ([], [])
    unseen: tuple[list[Terms], list[float]] = ([], [])
    for subject in subjects:
        process, peaks = _footprint(subject, provider, tokens)
        terms, taken = unseen if subject.name == HELD_OUT else seen
        terms += [memory_terms(subject.network, call) for call in peaks]
        taken += [peak - process for peak in peaks.values()]
        before.append(process)
    prices: Prices = fitted(*seen)
    held_out = errors(prices, *unseen)
    return {"process_bytes": max(before), "memory": prices, "memory_held_out": held_out}


def _footprint(subject: Subject, provider: str, tokens: int) -> tuple[int, dict[Call, int]]:
    """Return what a fresh process takes, and its peak after each call of a model, larger and larger."""
    requests = [subject.request(B, tokens) for B in _batches(64)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(subject.content)
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            feeds = [feed for _, feed in requests]
            process, _, *peaks = pool.submit(resident_bytes, path, feeds, provider).result()
    return process, {call: peak for (call, _), peak in zip(requests, peaks, strict=True)}
