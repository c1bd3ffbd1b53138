"""How fast `pipeline train` is, beside the loops that tutorials teach and beside the bare LSTM kernels."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from pipeline.bench.plain import WAYS, PlainClassifier, longest, train_plainly
from pipeline.dataset import Dataset
from pipeline.model import LSTMClassifier
from pipeline.recipe import Recipe
from pipeline.train.batches import plan
from pipeline.train.loop import Epoch, Training, train_epochs
from pipeline.train.precision import autocast, is_bfloat16
from pipeline.train.prepare import Prepared, check_recipe, prepare
from pipeline.train.state import State

Progress = Callable[[str], None]


def bench_training(
    data: Path, recipe: Recipe, *, seconds: float = 10.0, repeats: int = 3, progress: Progress = lambda _: None
) -> dict[str, Any]:
    """Train the same model on the same data in several ways, interleaved, for some seconds each.

    Args:
        data: a prepared data set.
        recipe: the model and how it is trained.
        seconds: for each way in each repeat, at least one step.
        repeats: of all ways.
        progress: told what is measured.

    Returns:
        ``tokens_per_second`` of each way, one figure a repeat, padding not counted; ``ratios`` of the medians; the
        ``kernel_share``: the bare kernels' time as a share of ours.

    Raises:
        UsageError: the recipe asks for something that the plain loops have not.
        DataError: the data set is damaged.
    """
    dataset = Dataset(data)
    check_recipe(recipe, dataset)
    prepared = prepare(dataset, recipe)
    ways: dict[str, Iterator[int]] = {
        "ours": _ours(prepared, recipe),
        **{way: _plain(prepared, recipe, way) for way in WAYS},
        "kernels": _kernels(prepared, recipe),
    }
    for name, steps in ways.items():
        progress(f"warm-up: {name}")
        next(steps)
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(repeats):
        for name, steps in ways.items():
            progress(f"repeat {number + 1} of {repeats}: {name}")
            speeds[name].append(_tokens_per_second(steps, seconds))
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    return {
        "tokens_per_second": speeds,
        "ratios": {way: medians["ours"] / medians[way] for way in WAYS},
        "kernel_share": medians["ours"] / medians["kernels"],
        "precision": "bf16" if is_bfloat16(recipe.train, torch.device("cpu")) else "fp32",
        "threads": torch.get_num_threads(),
        "processor": torch.cpu.get_capabilities().get("cpu_name") or platform.processor(),
        "cores": os.cpu_count(),
        "rows": len(prepared.training.labels),
        "mean_tokens": float(prepared.training.sequences.lengths.mean()),
        "longest": longest(prepared.training.sequences),
    }


def _tokens_per_second(steps: Iterator[int], seconds: float) -> float:
    tokens, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds or not tokens:
        tokens += next(steps)
    return tokens / elapsed if elapsed >= seconds else tokens / (time.perf_counter() - start)


def _ours(prepared: Prepared, recipe: Recipe) -> Iterator[int]:
    """Train as `pipeline train` does; yield each step's valid tokens."""
    state = State.fresh(prepared.model, recipe.train)
    training = Training(recipe, prepared.training, prepared.validation, prepared.augmentation)
    while True:
        state.epoch, state.history = 1, []
        before = 0
        for event in train_epochs(state, training):
            if isinstance(event, Epoch):
                before = 0
                continue
            yield state.tally.tokens - before
            before = state.tally.tokens


def _plain(prepared: Prepared, recipe: Recipe, way: str) -> Iterator[int]:
    torch.manual_seed(recipe.train.seed)
    like, sequences = prepared.model, prepared.training.sequences
    size = like.recurrent_layers[0].input_size
    model = PlainClassifier(recipe, prepared.record["vocabulary_size"], size, like.head.out_features, way)
    width = longest(sequences) if way == "fixed" else None
    return train_plainly(model, prepared.training, recipe, width, recipe.train.seed)


def _kernels(prepared: Prepared, recipe: Recipe) -> Iterator[int]:
    """Run only the LSTM kernels, forward and backward, on the batches that ours trains on; yield the valid tokens."""
    lengths, model = prepared.training.sequences.lengths, prepared.model
    is_bf16 = is_bfloat16(recipe.train, torch.device("cpu"))
    for epoch in range(1, 1_000_000):
        for step in plan(lengths, recipe.train, epoch):
            for indices in step:
                _run_kernels(model, len(indices), int(lengths[indices].max()), is_bf16=is_bf16)
            yield sum(int(lengths[indices].sum()) for indices in step)


def _run_kernels(model: LSTMClassifier, B: int, T: int, *, is_bf16: bool) -> None:
    for layer in model.recurrent_layers:
        for direction in layer.directions:
            inputs = torch.randn(B, T, layer.input_size, requires_grad=True)
            with autocast(inputs.device, is_bfloat16=is_bf16):
                outputs = direction(inputs)[0]
            torch.autograd.grad(outputs, [inputs, *direction.parameters()], torch.ones_like(outputs))
