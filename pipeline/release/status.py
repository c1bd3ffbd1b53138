"""What lies in a model repository, which version is what, and whether every file is the one that was published."""

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.client import Access
from pipeline.errors import PipelineError, RepositoryError
from pipeline.release.served import Served, look
from pipeline.repository import config, history
from pipeline.repository.aliases import Aliases, candidate_model
from pipeline.repository.config import CONFIG_FILE, LABELS_FILE
from pipeline.repository.transaction import Repository
from pipeline.repository.version import Version


@dataclass(frozen=True)
class VersionStatus:
    """One version.

    Attributes:
        version: its number.
        alias: ``production``, ``candidate``, or empty.
        variant: ``fp32``, ``int8``, …; as the next two empty where the manifest is damaged.
        published: ISO 8601, in UTC.
        test_accuracy: of the run; None for a variant, or where it was not measured.
        bytes: of all its files.
        faults: a line for each file that is not the published one.
    """

    version: int
    alias: str
    variant: str
    published: str
    test_accuracy: float | None
    bytes: int
    faults: tuple[str, ...]


@dataclass(frozen=True)
class ModelStatus:
    """One model.

    Attributes:
        name: of its folder.
        production: the version that answers requests to the name.
        candidate: the version that answers requests to ``NAME.candidate``.
        versions: all that are there, ascending.
        faults: a line for each thing that is wrong beside the versions.
        served: what a server was seen to serve; empty where none was asked.
    """

    name: str
    production: int | None
    candidate: int | None
    versions: tuple[VersionStatus, ...]
    faults: tuple[str, ...]
    served: tuple[Served, ...] = ()

    @property
    def problems(self) -> list[str]:
        """All faults, and all differences between the repository and the server."""
        faults = [fault for version in self.versions for fault in version.faults]
        return [*faults, *self.faults, *(line for served in self.served for line in served.differences)]


def status(
    repository: Path, name: str | None = None, *, url: str | None = None, access: Access | None = None
) -> list[ModelStatus]:
    """Look at a repository, and at the server that should serve it; nothing is changed or locked.

    Args:
        repository: the model repository.
        name: one model; all of them by default.
        url: host and gRPC port of a server.
        access: how to reach it.

    Raises:
        UsageError: there is no such repository or model.
        ServerError: the server does not answer.
    """
    aliases = Aliases(Repository(repository))
    if name is not None:
        aliases.require_model(name)
    models = [_model(aliases, model) for model in ([name] if name else aliases.models())]
    if url is None:
        return models
    intended = {
        served_as: version
        for model in models
        for served_as, version in ((model.name, model.production), (candidate_model(model.name), model.candidate))
    }
    seen = look(repository, intended, url, access)
    return [replace(model, served=tuple(seen[key] for key in seen if _is_of(key, model.name))) for model in models]


def _is_of(served_as: str, name: str) -> bool:
    return served_as in (name, candidate_model(name))


def _model(aliases: Aliases, name: str) -> ModelStatus:
    """Look at a model until nothing was changed meanwhile."""
    while True:
        before = _marks(aliases, name)
        found = _look_at(aliases, name)
        if before == _marks(aliases, name):
            return found


def _marks(aliases: Aliases, name: str) -> list[object]:
    """Return what is another after every change: the history grows."""
    path = aliases.store.path
    files = [
        path / name / history.HISTORY_FILE,
        *(path / model / CONFIG_FILE for model in (name, candidate_model(name))),
    ]
    return [aliases.store.versions(name), *map(_content, files)]


def _content(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except OSError:
        return None


def _look_at(aliases: Aliases, name: str) -> ModelStatus:
    try:
        named, faults = aliases.named(name), _alias_faults(aliases, name)
    except RepositoryError as error:  # config.pbtxt is damaged
        named, faults = {}, [str(error)]
    alias_of = {version: alias for alias, version in named.items()}
    versions = tuple(
        _version(aliases.store.path / name / str(number), alias_of.get(number, ""))
        for number in aliases.store.versions(name)
    )
    return ModelStatus(name, named.get("production"), named.get("candidate"), versions, tuple(faults))


def _version(path: Path, alias: str) -> VersionStatus:
    version = Version(path)
    try:
        manifest = version.manifest
    except RepositoryError:  # which is among its faults
        manifest = {"variant": "", "published": "", "test_accuracy": None}
    return VersionStatus(
        int(path.name),
        alias,
        manifest["variant"],
        manifest["published"],
        manifest["test_accuracy"],
        _size(path),
        tuple(version.faults()),
    )


def _size(folder: Path) -> int:
    with contextlib.suppress(FileNotFoundError):  # it was retired while we looked
        return sum(file.stat().st_size for file in folder.iterdir())
    return 0


def _alias_faults(aliases: Aliases, name: str) -> list[str]:
    """Compare what is served with what the versions' own files make, and read the history."""
    production, candidate = aliases.production(name), aliases.candidate(name)
    faults = []
    if production is not None:
        faults += _served_faults(aliases, name, production, name)
    if candidate is not None:
        model = candidate_model(name)
        faults += _served_faults(aliases, name, candidate, model)
        faults += Version(aliases.store.path / model / str(candidate)).faults()
    try:
        history.read(aliases.store.path / name)
    except RepositoryError as error:
        faults.append(str(error))
    return faults


def _served_faults(aliases: Aliases, name: str, version: int, model: str) -> list[str]:
    if version not in aliases.store.versions(name):
        return [f"{aliases.store.path / model / CONFIG_FILE}: names version {version}, which is not there."]
    own, folder = aliases.store.path / name / str(version), aliases.store.path / model
    try:
        wanted = {LABELS_FILE: config.labels(Version(own).signature)}
        if (own / CONFIG_FILE).is_file():  # a version from before aliases has none
            wanted[CONFIG_FILE] = aliases.served_config(name, version, model)
        differing = [folder / file for file, text in wanted.items() if (folder / file).read_bytes() != text.encode()]
    except (PipelineError, OSError) as error:
        return [str(error)]
    return [f"{file}: not as version {version} makes it." for file in differing]
