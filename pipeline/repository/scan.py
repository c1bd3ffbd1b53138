"""What lies in a model repository: models, their versions, and whether they changed."""

import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import RepositoryError

_VERSION = re.compile("[1-9][0-9]*")


@dataclass(frozen=True)
class ModelOnDisk:
    """One model's folder as it lies on disk.

    Attributes:
        versions: the version numbers, ascending.
        changed: when ``config.pbtxt`` was last written, in nanoseconds.
    """

    versions: tuple[int, ...]
    changed: int


def scan(repository: Path, only: tuple[str, ...] = ()) -> dict[str, ModelOnDisk]:
    """Return the models of a repository by name.

    A model is a folder whose name does not begin with a dot, with a ``config.pbtxt`` and at least one version.

    Raises:
        RepositoryError: the repository, or a model in it, cannot be read.
    """
    try:
        folders = [path for path in sorted(repository.iterdir()) if not path.name.startswith(".")]
        models = {path.name: _look_at(path) for path in folders if not only or path.name in only}
    except OSError as error:
        raise RepositoryError(f"{error.filename or repository}: cannot be read: {error.strerror}.") from error
    return {name: model for name, model in models.items() if model}


def versions_of(model: Path) -> tuple[int, ...]:
    """Return the version numbers in a model's folder, ascending; none where there is no such folder.

    A version is a folder whose name is a number without a leading 0. One of any other name is being written, or is
    no version, to Triton as to us.
    """
    try:
        return tuple(
            sorted(int(path.name) for path in model.iterdir() if _VERSION.fullmatch(path.name) and path.is_dir())
        )
    except FileNotFoundError:
        return ()


def _look_at(folder: Path) -> ModelOnDisk | None:
    try:
        model = ModelOnDisk(versions_of(folder), (folder / "config.pbtxt").stat().st_mtime_ns)
    except (FileNotFoundError, NotADirectoryError):  # it is no model, or was taken away while we looked
        return None
    return model if model.versions else None
