"""The run directory: where every stage leaves its record, and the only thing that stages pass on.

::

    runs/NAME/
        run.json              the data set, its hashes, versions and seed; written when training starts
        recipe.toml           the resolved recipe: every key, defaults included
        tokenizer.onnx        text only: raw text to token ids, fitted on the training split
        weights.safetensors   the weights of the best epoch
        metrics.jsonl         one line per epoch
        events.out.tfevents.* for TensorBoard, if asked for
        evaluation.json       `pipeline evaluate`
        attack.json           `pipeline attack`
        model.onnx            `pipeline export`
        signature.json        `pipeline export`
        model.int8.onnx       `pipeline export --variants`, as .fp16 and .bf16; those that passed their gate
        variants.json         `pipeline export --variants`: their figures, and why others fell
        parity.json           `pipeline verify`
        model.sig             `pipeline verify --sign-key`
        tuned.pbtxt           `pipeline tune`: a patch to config.pbtxt that `pipeline publish` takes
        tune.json, tune.html  `pipeline tune`: what was found, and what it was held against
        tune.jsonl            `pipeline tune`: every trial, so that it can be gone on with
        drift.json            `pipeline drift`: how the requests of production differ from the training data
        report.html           `pipeline report`
"""

import re
from pathlib import Path
from types import NoneType
from typing import Any

from pipeline.errors import RunError, UsageError
from pipeline.files import read_record

MADE_BY = {
    "run.json": "train",
    "recipe.toml": "train",
    "tokenizer.onnx": "train",
    "weights.safetensors": "train",
    "metrics.jsonl": "train",
    "evaluation.json": "evaluate",
    "attack.json": "attack",
    "model.onnx": "export",
    "signature.json": "export",
    "model.int8.onnx": "export --variants int8",
    "model.fp16.onnx": "export --variants fp16",
    "model.bf16.onnx": "export --variants bf16",
    "variants.json": "export --variants auto",
    "parity.json": "verify",
    "drift.json": "drift",
    "report.html": "report",
}

_INFO: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "dataset": str,
    "dataset_hashes": dict,
    "interface": str,
    "classes": list,
    "feature_size": (int, NoneType),
    "interrupted": bool,
    "hashes": dict,
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def require_model_name(name: str) -> str:
    """Return a name that can be a folder, a model in Triton and a run.

    Raises:
        UsageError: it cannot.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r}: not a model name: wanted letters, digits, '.', '_' and '-', a letter or digit first. "
            "Choose one with --set publish.name=NAME (train) or --name NAME (publish)."
        )
    return name


class RunDirectory:
    """Paths of one run's files; `require` names the stage that makes a missing one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, parent: Path, name: str) -> "RunDirectory":
        """Make the next free directory ``NAME-001``, ``NAME-002``, … under a parent.

        Raises:
            UsageError: the name cannot be a model's.
            RunError: the parent cannot be written.
        """
        require_model_name(name)
        number = 1 + max((_number(path, name) for path in parent.glob(f"{name}-*")), default=0)
        try:
            parent.mkdir(parents=True, exist_ok=True)
            while True:
                path = parent / f"{name}-{number:03d}"
                try:
                    path.mkdir()
                    return cls(path)
                except FileExistsError:
                    number += 1
        except OSError as error:
            raise RunError(
                f"{parent}: cannot hold a run: {error.strerror}. Choose another folder with --runs."
            ) from error

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """Open an existing run.

        Raises:
            UsageError: there is no such directory, or it is not a run.
        """
        if not path.is_dir():
            raise UsageError(f"{path}: no such run directory. `pipeline train` prints the one it makes.")
        if not (path / "run.json").is_file():
            raise UsageError(f"{path}: not a run directory: it has no run.json. `pipeline train` makes one.")
        return cls(path)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def require(self, name: str) -> Path:
        """Return the path of a stage's file.

        Raises:
            RunError: the stage that makes it has not run, or was cut off.
        """
        path = self.path / name
        if not path.is_file():
            raise RunError(f"{path}: missing. Make it with `pipeline {MADE_BY.get(name, 'train')}` first.")
        return path

    @property
    def info(self) -> dict[str, Any]:
        """``run.json``."""
        return read_record(self.require("run.json"), _INFO)


def _number(path: Path, name: str) -> int:
    suffix = path.name.removeprefix(f"{name}-")
    return int(suffix) if suffix.isdecimal() else 0
