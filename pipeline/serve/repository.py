"""What lies in a model repository: models, their versions, and whether they changed."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import RepositoryError, UsageError


@dataclass(frozen=True)
class ModelOnDisk:
    """One model's folder as it lies on disk.

    Attributes:
        versions: the version numbers, ascending. Folders with any other name are being written, or are not versions.
        changed: when ``config.pbtxt`` was last written, in nanoseconds.
    """

    versions: tuple[int, ...]
    changed: int


def scan(repository: Path, only: tuple[str, ...] = ()) -> dict[str, ModelOnDisk]:
    """Return the models of a repository by name.

    A model is a folder whose name does not begin with a dot, with a ``config.pbtxt`` and at least one version.
    """
    found = {}
    for config in sorted(repository.glob("[!.]*/config.pbtxt")):
        if only and config.parent.name not in only:
            continue
        try:
            model = ModelOnDisk(_versions(config.parent), config.stat().st_mtime_ns)
        except FileNotFoundError:  # taken away while we looked
            continue
        if model.versions:
            found[config.parent.name] = model
    return found


def require_models(repository: Path, only: tuple[str, ...] = ()) -> dict[str, ModelOnDisk]:
    """Return the models to serve.

    Raises:
        RepositoryError: there is no repository, or nothing in it.
        UsageError: a model that was asked for is not there.
    """
    if not repository.is_dir():
        raise RepositoryError(f"{repository}: no such model repository. `pipeline publish` makes one.")
    found = scan(repository)
    if not found:
        raise RepositoryError(f"{repository}: no model to serve. Put one there with `pipeline publish`.")
    missing = [name for name in only if name not in found]
    if missing:
        raise UsageError(f"{repository}: no model named {', '.join(missing)}; there are {', '.join(found)}.")
    return {name: model for name, model in found.items() if not only or name in only}


def _versions(folder: Path) -> tuple[int, ...]:
    return tuple(sorted(int(path.name) for path in folder.iterdir() if _is_version(path)))


def _is_version(path: Path) -> bool:
    name = path.name
    return name.isascii() and name.isdecimal() and not name.startswith("0") and path.is_dir()
