"""A published version: its manifest, whether its bytes are the published ones, and what it answers."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np

from pipeline.errors import CheckFailed, RepositoryError, RunError
from pipeline.files import read_record, sha256_of
from pipeline.repository.config import MODEL_FILE
from pipeline.repository.goldens import Goldens
from pipeline.sequences import feed
from pipeline.signature import Signature
from pipeline.signing import SIGNATURE

MANIFEST = "manifest.json"
_WANTED: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "version": int,
    "variant": str,
    "published": str,
    "files": dict,
    "test_accuracy": (float, int, NoneType),
}


@dataclass(frozen=True)
class Version:
    """A version's folder.

    Attributes:
        path: ``NAME/VERSION``.
    """

    path: Path

    @property
    def manifest(self) -> dict[str, Any]:
        """``manifest.json``.

        Raises:
            RepositoryError: it is missing or damaged.
        """
        try:
            manifest = read_record(self.path / MANIFEST, _WANTED)
        except RunError as error:
            raise RepositoryError(f"{self.path}: not a whole version that `pipeline publish` wrote: {error}") from error
        if MODEL_FILE not in manifest["files"]:
            raise RepositoryError(f"{self.path / MANIFEST}: edited: it lists no {MODEL_FILE}. Publish the run again.")
        return manifest

    @property
    def signature(self) -> Signature:
        """``signature.json``.

        Raises:
            RepositoryError: it is missing or damaged.
        """
        try:
            return Signature.load(self.path / "signature.json")
        except RunError as error:
            raise RepositoryError(f"{self.path}: not a whole version that `pipeline publish` wrote: {error}") from error

    def faults(self) -> list[str]:
        """Return a line for each file that is not, byte for byte, the one that was published."""
        try:
            manifest = self.manifest
            present = {path.name for path in self.path.iterdir()}
        except (RepositoryError, OSError) as error:
            return [str(error)]
        faults = [_fault(self.path / file, wanted) for file, wanted in manifest["files"].items()]
        if manifest["version"] != int(self.path.name):
            faults.append(f"{self.path / MANIFEST}: of version {manifest['version']}")
        unknown = present - {MANIFEST, SIGNATURE, *manifest["files"]}
        faults += [f"{self.path / file}: was not published" for file in sorted(unknown)]
        return [fault for fault in faults if fault]

    def require_whole(self) -> None:
        """Refuse a version whose files are not those that were published.

        Raises:
            CheckFailed: a file is missing, was changed or was added.
        """
        if faults := self.faults():
            raise CheckFailed(f"{faults[0]}. Publish the run again, as a new version.")

    def answers(self, rows: Iterable[Any]) -> list[tuple[str, np.ndarray]]:
        """Return the label and the probabilities (C,) of each row, asked alone in ONNX Runtime.

        Raises:
            PipelineError: the model does not load.
        """
        from pipeline.runtime import open_session  # whoever only looks at a version needs no ONNX Runtime

        interface = self.signature.interface
        session = open_session(self.path / MODEL_FILE)
        asked = (session.run(["label", "probabilities"], feed(interface, [row])) for row in rows)
        return [(str(label[0, 0]), probabilities[0]) for label, probabilities in asked]

    def require_answers(self) -> None:
        """Load the model and ask it its golden rows.

        Raises:
            CheckFailed: an answer is not the one that was verified.
            PipelineError: the model does not load.
        """
        goldens = Goldens.load(self.path)
        if faults := goldens.faults(self.answers(golden.row for golden in goldens.rows)):
            raise CheckFailed(f"{self.path}: does not answer as it was verified: {faults[0]}.")


def _fault(file: Path, wanted: str) -> str:
    """Say how a file differs from the published one; nothing where it does not."""
    try:
        got = sha256_of(file)
    except OSError as error:
        return f"{file}: {error.strerror}"
    return "" if got == wanted else f"{file}: SHA-256 {got}, published as {wanted}"
