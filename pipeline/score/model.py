"""Which bytes answer: a verified run's, or those of a published version that nobody changed."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UsageError
from pipeline.files import read_json
from pipeline.gate import PRECISIONS, require_verified
from pipeline.repository.aliases import Aliases
from pipeline.repository.config import MODEL_FILE
from pipeline.repository.transaction import Repository
from pipeline.repository.version import MANIFEST, Version
from pipeline.run_directory import RunDirectory
from pipeline.runtime import CPU
from pipeline.signature import Signature


@dataclass(frozen=True)
class Model:
    """A model file that was verified.

    Attributes:
        path: of the file.
        sha256: of its verified bytes; whoever loads the file compares.
        classes: label names; column i of the probabilities belongs to class i.
        provider: the execution provider that its precision needs.
    """

    path: Path
    sha256: str
    classes: tuple[str, ...]
    provider: str


def find_model(path: Path, variant: str | None = None) -> Model:
    """Return the model of a run, of a published version, or of a published model's production version.

    Args:
        path: ``runs/NAME``, ``model_repository/NAME`` or ``model_repository/NAME/VERSION``.
        variant: of a run: ``int8`` or another that was verified.

    Raises:
        CheckFailed: the run failed verification or was changed since, or the version is not as it was published.
        RunError: the run was never verified.
        RepositoryError: the repository is damaged.
        UsageError: nothing of the kind is there, or it takes features.
    """
    if (path / "run.json").is_file():
        run = RunDirectory.open(path)
        file = run / require_verified(run, variant)
        sha256 = read_json(run / "parity.json")["hashes"][file.name]
        return _model(file, sha256, Signature.load(run / "signature.json"), variant)
    if variant is not None:
        raise UsageError(f"{path}: not a run, of which --variant would choose. A published version is of one variant.")
    version = _version(path)
    version.require_whole()
    manifest = version.manifest
    return _model(version.path / MODEL_FILE, manifest["files"][MODEL_FILE], version.signature, manifest["variant"])


def _version(path: Path) -> Version:
    if (path / MANIFEST).is_file():
        return Version(path)
    if not (path / "config.pbtxt").is_file():
        raise UsageError(
            f"{path}: neither a run nor a published model. Give runs/NAME, or model_repository/NAME[/VERSION]."
        )
    aliases = Aliases(Repository(path.parent))
    number = aliases.production(path.name)
    if number is None:
        raise UsageError(f"{path}: no version of it is production. Give one: {path}/VERSION.")
    return aliases.require(path.name, number)


def _model(file: Path, sha256: str, signature: Signature, variant: str | None) -> Model:
    if signature.interface != "text":
        raise UsageError(f"{file.parent}: takes features; score takes texts. Use `pipeline predict --input FILE`.")
    provider = PRECISIONS[variant].provider if variant in PRECISIONS else CPU
    return Model(file.resolve(), sha256, signature.classes, provider)
