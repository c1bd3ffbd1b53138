"""What the stages have left in a run directory, read once and not yet judged."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import DataError, RunError
from pipeline.files import read_json, sha256_of
from pipeline.run_directory import MADE_BY, RunDirectory
from pipeline.signature import Signature

Record = dict[str, Any]


@dataclass(frozen=True)
class Records:
    """A run's files.

    Attributes:
        run: the run directory.
        info: ``run.json``.
        recipe: ``recipe.toml``, as it stands.
        epochs: ``metrics.jsonl``, one record an epoch; None if it is not there.
        evaluation: ``evaluation.json``; None if it is not there.
        attack: ``attack.json``; None if it is not there.
        signature: ``signature.json``; None if it is not there.
        parity: ``parity.json``; None if it is not there.
        variants: ``variants.json``; None if it is not there.
        drift: ``drift.json``; None if it is not there.
        data: where the data set was, or is said to be now.
        profile: its ``dataset.json``; None if it is gone.
        digests: SHA-256 of every file of the run as it is now.
    """

    run: RunDirectory
    info: Record
    recipe: str
    epochs: list[Record] | None
    evaluation: Record | None
    attack: Record | None
    signature: Signature | None
    parity: Record | None
    variants: Record | None
    drift: Record | None
    data: Path
    profile: Record | None
    digests: dict[str, str]

    @property
    def changed(self) -> list[str]:
        """Files that are not, or no longer, the bytes that were verified."""
        if self.parity is None:
            return []
        verified = self.parity["hashes"]
        names = dict.fromkeys(["model.onnx", "signature.json", *verified])
        return [name for name in names if name not in verified or self.digests.get(name) != verified[name]]

    @property
    def is_evaluation_stale(self) -> bool:
        """Whether the held-out figures belong to other weights than the run's."""
        return self.evaluation is not None and (
            self.evaluation["weights_sha256"] != self.digests.get("weights.safetensors")
        )


def read(run: RunDirectory, data: Path | None = None) -> Records:
    """Read everything that a run's stages have written so far.

    Raises:
        RunError: a file is damaged, or `pipeline train` never finished writing the first ones.
        DataError: `data` was given and is not a prepared data set.
    """
    info = run.info
    return Records(
        run=run,
        info=info,
        recipe=_text(run.require("recipe.toml")),
        epochs=_lines(run / "metrics.jsonl"),
        evaluation=_optional(run / "evaluation.json"),
        attack=_optional(run / "attack.json"),
        signature=Signature.load(run / "signature.json") if (run / "signature.json").exists() else None,
        parity=_optional(run / "parity.json"),
        variants=_optional(run / "variants.json"),
        drift=_optional(run / "drift.json"),
        data=data or Path(info["dataset"]),
        profile=_profile(data or Path(info["dataset"]), is_required=data is not None),
        digests={name: sha256_of(run / name) for name in MADE_BY if (run / name).is_file() and name != "report.html"},
    )


@contextmanager
def expecting(path: Path, command: str) -> Iterator[None]:
    """Turn a key that is missing, or a value of another kind, into one line about the file.

    Raises:
        RunError: the file is JSON, but not what the command writes.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise RunError(f"{path}: not what `pipeline {command}` writes ({reason}). Run it again.") from error


def _optional(path: Path) -> Record | None:
    if not path.exists():
        return None
    return _record(read_json(path), path)


def _record(content: Any, path: Path) -> Record:
    if not isinstance(content, dict):
        raise RunError(
            f"{path}: wanted a JSON object, got {type(content).__name__}. Run the stage that writes it again."
        )
    return content


def _lines(path: Path) -> list[Record] | None:
    if not path.exists():
        return None
    records = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        try:
            records.append(_record(json.loads(line), path))
        except ValueError as error:
            raise RunError(f"{path}: line {number} is not JSON ({error}). Train again.") from error
    return records


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: cannot be read as UTF-8 text ({error}). Train again.") from error


def _profile(folder: Path, *, is_required: bool) -> Record | None:
    path = folder / "dataset.json"
    if not is_required:
        return _optional(path)
    try:
        return _record(read_json(path), path)
    except RunError as error:
        raise DataError(f"{folder}: not a prepared data set: {error}") from error
