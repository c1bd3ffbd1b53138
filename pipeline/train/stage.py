"""From a recipe and a prepared data set to a run directory."""

import contextlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from pipeline import __version__, recipe
from pipeline.dataset import Dataset, dataset_of
from pipeline.errors import UsageError
from pipeline.files import remove_leftovers, sha256_of, write_json, write_text
from pipeline.model import load_weights, save_weights
from pipeline.recipe import Recipe
from pipeline.run_directory import RunDirectory
from pipeline.train.calibrate import calibrate
from pipeline.train.loop import Epoch, Training, train_epochs
from pipeline.train.prepare import Prepared, check_recipe, prepare
from pipeline.train.pretrain import pretrain
from pipeline.train.processes import Processes, joined
from pipeline.train.state import State
from pipeline.train.track import Event, tracking

Progress = Callable[[Event], None]

CHECKPOINT = "checkpoint.safetensors"
PRETRAINED = "pretrained.safetensors"
_OWN_FILES = ("recipe.toml", "tokenizer.onnx", "weights.safetensors")


@dataclass(frozen=True)
class Choices:
    """How to train, which changes nothing of what is trained.

    Attributes:
        device: ``cpu`` or ``cuda``.
        is_deterministic: use only operations that give the same bits each time on the same machine.
        checkpoint_seconds: a checkpoint is written after each epoch, and within one when the last is older than this.
        trackers: whom else to tell: ``tensorboard``, ``mlflow``; see `pipeline.train.track`.
        progress: called with every step and every epoch, in the first process.
    """

    device: str = "cpu"
    is_deterministic: bool = False
    checkpoint_seconds: float = 60.0
    trackers: tuple[str, ...] = ()
    progress: Progress = lambda _: None


def train(data: Path, keys: Recipe, runs: Path, choices: Choices | None = None) -> RunDirectory:
    """Train a classifier and leave everything that later stages need in a new run directory.

    Every best epoch's weights are written as soon as they are known. An interrupt (Ctrl-C) keeps them: ``run.json``
    then says ``interrupted`` and the run is as usable as a finished one; `resume` goes on with it.

    Args:
        data: a prepared data set.
        keys: the recipe.
        runs: the folder that holds the runs; the new one is named after the model.
        choices: how to train.

    Raises:
        DataError: the data set is damaged, or nothing can be learned from it.
        UsageError: the device is not there, or the recipe does not fit the data.
        PipelineError: training diverged, the run directory cannot be written, or another process is gone.
    """
    choices = choices or Choices()
    _check_device(choices.device)
    dataset = Dataset(data)
    check_recipe(keys, dataset)
    with joined(choices.device) as processes:
        path = str(RunDirectory.create(runs, model_name(keys, data)).path) if processes.is_first else ""
        run = RunDirectory(Path(processes.share_text(path)))
        if processes.is_first:
            write_text(run / "recipe.toml", recipe.dumps(keys))
            write_json(run / "run.json", _describe(dataset, keys, choices))
        _fill(run, dataset, keys, choices, processes)
    return run


def resume(run: RunDirectory, choices: Choices | None = None, data: Path | None = None) -> RunDirectory:
    """Go on with a run whose training was cut off, from its last checkpoint, or from the start if it has none.

    On the CPU the weights it ends with are, bit for bit, those that training would have ended with.

    Args:
        run: what `train` left.
        choices: how to train.
        data: the data set, where it is no longer in the place it was.

    Raises:
        UsageError: the run is finished.
        DataError: the data set is gone, or is another one.
        RunError: a file of the run is damaged.
        PipelineError: as `train`.
    """
    choices = choices or Choices()
    _check_device(choices.device)
    info = run.info
    if info["hashes"] and not info["interrupted"]:
        raise UsageError(f"{run.path}: training is finished; there is nothing to resume.")
    dataset = dataset_of(run, data)
    with joined(choices.device) as processes:
        if processes.is_first:
            write_json(run / "run.json", {**info, "hashes": {}, "interrupted": False})
            remove_leftovers(run.path)
        _fill(run, dataset, recipe.load(str(run.require("recipe.toml"))), choices, processes)
    return run


def model_name(keys: Recipe, data: Path) -> str:
    """Return the name a model is published under: the recipe's, or the data set's."""
    return keys.publish.name or data.resolve().name


def _fill(run: RunDirectory, dataset: Dataset, keys: Recipe, choices: Choices, processes: Processes) -> None:
    trackers = choices.trackers if processes.is_first else ()
    with _determinism(is_enabled=choices.is_deterministic), tracking(run, keys, trackers) as track:

        def progress(event: Event) -> None:
            choices.progress(event)
            track(event)

        prepared = prepare(dataset, keys, run.path if processes.is_first else None)
        model = prepared.model.to(_device(choices, processes))
        training = Training(keys, prepared.training, prepared.validation, prepared.augmentation, processes)
        state = State.fresh(model, keys.train, is_sparse=processes.size == 1)
        if (run / CHECKPOINT).exists():
            state.load(run / CHECKPOINT)
        else:
            _pretrain(prepared, keys, run, progress, processes)
        is_whole = _train(state, training, run, progress, choices.checkpoint_seconds)
        if processes.is_first:
            _finish(run, prepared, state, is_whole=is_whole, is_calibrated=keys.train.calibrate)


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


def _pretrain(prepared: Prepared, keys: Recipe, run: RunDirectory, progress: Progress, processes: Processes) -> None:
    """Pre-train where the recipe says so; a run that was cut off later takes the result from its file."""
    path = run / PRETRAINED
    if prepared.unlabelled is None:
        return
    if path.exists():
        load_weights(prepared.model, path)
        return
    for event in pretrain(prepared.model, prepared.unlabelled, keys):
        if processes.is_first:
            progress(event)
    for value in prepared.model.state_dict().values():
        processes.mean(value)  # alike but for rounding; and all have looked for the file before the first writes it
    if processes.is_first:
        save_weights(prepared.model.state_dict(), path)


def _train(state: State, training: Training, run: RunDirectory, progress: Progress, checkpoint_seconds: float) -> bool:
    """Train, writing what each event brings; return False if the user interrupted it."""
    saved = time.monotonic()
    try:
        for event in train_epochs(state, training):
            if not training.processes.is_first:
                continue
            if isinstance(event, Epoch):
                if event.weights is not None:
                    save_weights(event.weights, run / "weights.safetensors")
                write_text(run / "metrics.jsonl", _lines(state.history))
            if isinstance(event, Epoch) or time.monotonic() - saved >= checkpoint_seconds:
                state.save(run / CHECKPOINT)
                saved = time.monotonic()
            progress(event)
    except KeyboardInterrupt:
        return False
    return True


def _finish(run: RunDirectory, prepared: Prepared, state: State, *, is_whole: bool, is_calibrated: bool) -> None:
    """Write the weights that stay, calibrated if training came to its end, and what they are."""
    info = {**run.info, **prepared.record, "interrupted": not is_whole}
    if is_whole:
        if is_calibrated:
            info["calibration"] = calibrate(state.model, prepared.validation)
        save_weights(state.model.state_dict(), run / "weights.safetensors")
    elif not (run / "weights.safetensors").exists():
        save_weights(state.model.state_dict(), run / "weights.safetensors")
    write_text(run / "metrics.jsonl", _lines(state.history))
    info["hashes"] = {path.name: sha256_of(path) for path in sorted(run.path.iterdir()) if path.name in _OWN_FILES}
    write_json(run / "run.json", info)
    if is_whole:
        for name in (CHECKPOINT, PRETRAINED):
            (run / name).unlink(missing_ok=True)


def _lines(records: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(record, allow_nan=False) + "\n" for record in records)


def _device(choices: Choices, processes: Processes) -> torch.device:
    return torch.device("cuda", processes.local_rank) if choices.device == "cuda" else torch.device("cpu")


def _check_device(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: PyTorch sees no CUDA device. Use --device cpu, or see `pipeline doctor`.")


def _describe(dataset: Dataset, keys: Recipe, choices: Choices) -> dict[str, Any]:
    return {
        "format": 1,
        "name": model_name(keys, dataset.path),
        "dataset": str(dataset.path.resolve()),
        "dataset_hashes": dataset.hashes,
        "interface": dataset.interface,
        "classes": list(dataset.classes),
        "feature_size": dataset.feature_size,
        "vocabulary_size": None,
        "device": choices.device,
        "deterministic": choices.is_deterministic,
        "interrupted": False,
        "hashes": {},
        "versions": {
            "pipeline": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "onnx", "numpy")},
        },
    }
