"""From a recipe and a prepared data set to a run directory."""

import contextlib
import json
import os
import platform
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline import __version__, recipe
from pipeline.dataset import Dataset
from pipeline.encoding import encode
from pipeline.errors import UsageError
from pipeline.files import sha256_of, write_bytes, write_json, write_text
from pipeline.model import LSTMClassifier, Shape, save_weights
from pipeline.model.classifier import FrameStandardisation
from pipeline.recipe import Recipe
from pipeline.run_directory import RunDirectory
from pipeline.tokenizer import FIRST_WORD_ID, Tokenizer, fit, read_vocabulary
from pipeline.train.loop import Epoch, Examples, Step, train_epochs

Progress = Callable[[Step | Epoch], None]


def train(
    data: Path,
    keys: Recipe,
    runs: Path,
    *,
    device: str = "cpu",
    is_deterministic: bool = False,
    progress: Progress = lambda _: None,
) -> RunDirectory:
    """Train a classifier and leave everything that later stages need in a new run directory.

    Every best epoch's weights are written as soon as they are known. An interrupt (Ctrl-C) keeps them: ``run.json``
    then says ``interrupted`` and the run is as usable as a finished one.

    Args:
        data: a prepared data set.
        keys: the recipe.
        runs: the folder that holds the runs; the new one is named after the model.
        device: ``cpu`` or ``cuda``.
        is_deterministic: use only operations that give the same bits each time on the same machine.
        progress: called with every step and every epoch.

    Raises:
        DataError: the data set is damaged, or nothing can be learned from it.
        UsageError: the device is not there.
        PipelineError: training diverged, or the run directory cannot be written.
    """
    _check_device(device)
    dataset = Dataset(data)
    run = RunDirectory.create(runs, model_name(keys, data))
    with _determinism(is_enabled=is_deterministic):
        _fill(run, dataset, keys, device, is_deterministic, progress)
    return run


_OWN_FILES = ("recipe.toml", "tokenizer.onnx", "weights.safetensors")


def model_name(keys: Recipe, data: Path) -> str:
    """Return the name a model is published under: the recipe's, or the data set's."""
    return keys.publish.name or data.resolve().name


def _fill(
    run: RunDirectory, dataset: Dataset, keys: Recipe, device: str, is_deterministic: bool, progress: Progress
) -> None:
    torch.manual_seed(keys.train.seed)
    info = _describe(dataset, keys, device, is_deterministic)
    write_text(run / "recipe.toml", recipe.dumps(keys))
    tokenizer, info["vocabulary_size"] = _fit_tokenizer(dataset, keys, run)
    training, validation = (_examples(dataset, name, tokenizer) for name in ("train", "validation"))
    model = _make_model(keys, info, training).to(device)
    write_json(run / "run.json", info)
    info["interrupted"] = not _train(model, training, validation, keys, run, progress)
    info["hashes"] = {path.name: sha256_of(path) for path in sorted(run.path.iterdir()) if path.name in _OWN_FILES}
    write_json(run / "run.json", info)


@contextlib.contextmanager
def _determinism(*, is_enabled: bool) -> Iterator[None]:
    """Allow only operations that give the same bits each time, and put back what was allowed before."""
    before = torch.are_deterministic_algorithms_enabled()
    if is_enabled:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS refuses to be deterministic
    torch.use_deterministic_algorithms(is_enabled or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _train(
    model: LSTMClassifier, training: Examples, validation: Examples, keys: Recipe, run: RunDirectory, progress: Progress
) -> bool:
    """Train, recording each epoch; return False if the user interrupted it."""
    metrics: list[str] = []
    try:
        for event in train_epochs(model, training, validation, keys.train):
            if isinstance(event, Epoch):
                metrics.append(json.dumps(event.record, allow_nan=False) + "\n")
                if event.weights is not None:
                    save_weights(event.weights, run / "weights.safetensors")
                write_text(run / "metrics.jsonl", "".join(metrics))
            progress(event)
    except KeyboardInterrupt:
        if not (run / "weights.safetensors").exists():
            save_weights(model.state_dict(), run / "weights.safetensors")
        write_text(run / "metrics.jsonl", "".join(metrics))
        return False
    return True


def _check_device(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: PyTorch sees no CUDA device. Use --device cpu, or see `pipeline doctor`.")


def _fit_tokenizer(dataset: Dataset, keys: Recipe, run: RunDirectory) -> tuple[Tokenizer | None, int | None]:
    """Fit and write the tokenizer; return it with the number of its token ids, or nothing for features."""
    if dataset.interface != "text":
        return None, None
    graph = fit(dataset.split("train").texts(), keys.tokenizer)
    content = graph.SerializeToString(deterministic=True)
    write_bytes(run / "tokenizer.onnx", content)
    return Tokenizer(content), FIRST_WORD_ID + len(read_vocabulary(graph))


def _examples(dataset: Dataset, name: Any, tokenizer: Tokenizer | None) -> Examples:
    split = dataset.split(name)
    return Examples(encode(split, tokenizer), split.labels)


def _make_model(keys: Recipe, info: dict[str, Any], training: Examples) -> LSTMClassifier:
    model = LSTMClassifier(keys.model, Shape(len(info["classes"]), info["vocabulary_size"], info["feature_size"]))
    if isinstance(model.embedding, FrameStandardisation):
        model.embedding.fit(torch.from_numpy(np.asarray(training.sequences.values)))
    return model


def _describe(dataset: Dataset, keys: Recipe, device: str, is_deterministic: bool) -> dict[str, Any]:
    return {
        "format": 1,
        "name": model_name(keys, dataset.path),
        "dataset": str(dataset.path.resolve()),
        "dataset_hashes": dataset.hashes,
        "interface": dataset.interface,
        "classes": list(dataset.classes),
        "feature_size": dataset.feature_size,
        "vocabulary_size": None,
        "device": device,
        "deterministic": is_deterministic,
        "interrupted": False,
        "hashes": {},
        "versions": {
            "pipeline": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "onnx", "numpy")},
        },
    }
