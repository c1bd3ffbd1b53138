"""Which version of a model is production, and which is the candidate.

``NAME/config.pbtxt`` names one version in its version policy: that is production, and one rename of that file changes
it. The candidate is a model of its own, ``NAME.candidate``, which no request to ``NAME`` reaches: its folder holds the
version by hard links and its own ``config.pbtxt``, and appears and goes by one rename. A version is never both; the
folder of a candidate that became production stands for none, and goes with the next change.

Whoever changes an alias holds `Repository.locked`; reading needs no lock::

    with store.locked():
        aliases = Aliases(store)
        aliases.set_production("sentiment", 3, "promoted")
"""

import os
import shutil
from pathlib import Path

from google.protobuf import text_format

from pipeline.errors import RepositoryError, RunError
from pipeline.files import read_record
from pipeline.repository import config, history
from pipeline.repository.history import Alias, Change
from pipeline.repository.scan import versions_of
from pipeline.repository.transaction import Repository

CANDIDATE_SUFFIX = ".candidate"
_MANIFEST: dict[str, type | tuple[type, ...]] = {"files": dict}


def candidate_model(name: str) -> str:
    """Return the name under which a server knows the candidate of a model."""
    return name + CANDIDATE_SUFFIX


class Aliases:
    """The aliases of a repository's models."""

    def __init__(self, store: Repository) -> None:
        self.store = store

    def production(self, name: str) -> int | None:
        """Return the version that answers requests to ``NAME``; None before the first.

        In a repository from before aliases it is the newest.

        Raises:
            RepositoryError: ``config.pbtxt`` is damaged.
        """
        return self._named(self.store.path / name)

    def candidate(self, name: str) -> int | None:
        """Return the version that answers requests to ``NAME.candidate``, if there is one.

        Raises:
            RepositoryError: ``config.pbtxt`` is damaged.
        """
        version = self._named(self.store.path / candidate_model(name))
        return None if version == self.production(name) else version

    def history(self, name: str) -> list[Change]:
        """Return the changes that were made, oldest first.

        Raises:
            RepositoryError: it cannot be read.
        """
        while True:
            aliases = self._aliases(name)
            versions = versions_of(self.store.path / name)
            changes = history.came_true(history.read(self.store.path / name), aliases, versions)
            if aliases == self._aliases(name):  # else somebody changed them while we read
                return changes

    def previous_production(self, name: str) -> int | None:
        """Return the version that a rollback goes back to, if there is one."""
        return history.previous_production(self.history(name), versions_of(self.store.path / name))

    def set_production(self, name: str, version: int, reason: str, *, is_rollback: bool = False) -> None:
        """Let requests to ``NAME`` be answered by a version; if it was the candidate, it is so no longer.

        Args:
            name: the model.
            version: one of its versions.
            reason: for the history.
            is_rollback: it goes back: the version before this one shall not be what a next rollback returns to.

        Raises:
            RepositoryError: there is no such version, or nothing can be written.
        """
        wanted = self._config(name, version, name)
        self.tidy(name)
        changes = []
        if (before := self.production(name)) != version:
            changes.append(Change.now("production", before, version, reason, is_rollback=is_rollback))
        if self.candidate(name) == version:
            changes.append(Change.now("candidate", version, None, reason))
        self.record(name, changes)
        self._write(self.store.path / name / "config.pbtxt", wanted)
        self.tidy(name)

    def set_candidate(self, name: str, version: int | None, reason: str) -> None:
        """Let requests to ``NAME.candidate`` be answered by a version, or by none.

        Raises:
            RepositoryError: there is no such version, it is production, or nothing can be written.
        """
        self.tidy(name)
        before = self.candidate(name)
        if version == before:
            return
        if version is not None and version == self.production(name):
            raise RepositoryError(f"{self.store.path / name}: version {version} is production, and cannot be both.")
        wanted = "" if version is None else self._config(name, version, candidate_model(name))
        self.record(name, [Change.now("candidate", before, version, reason)])
        folder = self.store.path / candidate_model(name)
        if version is None:
            self.store.remove(folder)
        elif before is None:
            self._put_candidate(name, version, wanted)
        else:
            with self.store.staging() as staging:
                _link(self.store.path / name / str(version), staging / str(version))
                self.store.put(staging / str(version), folder / str(version))
            self._write(folder / "config.pbtxt", wanted)
        self.tidy(name)

    def record(self, name: str, changes: list[Change]) -> None:
        """Write changes into the history, ahead of making them."""
        if changes:
            self._write(self.store.path / name / history.HISTORY_FILE, history.dumps([*self.history(name), *changes]))

    def tidy(self, name: str) -> None:
        """Remove what a change, or one that was cut off, left of a candidate that is none any more."""
        folder = self.store.path / candidate_model(name)
        candidate = self.candidate(name)
        if candidate is None:
            self.store.remove(folder)
        for version in versions_of(folder):
            if version != candidate:
                self.store.remove(folder / str(version))

    def _aliases(self, name: str) -> dict[Alias, int | None]:
        return {"production": self.production(name), "candidate": self.candidate(name)}

    def _named(self, folder: Path) -> int | None:
        """Return the version that Triton answers from when it is asked for none."""
        try:
            policy = config.loads((folder / "config.pbtxt").read_text()).version_policy
        except FileNotFoundError:
            return None
        except (text_format.ParseError, UnicodeDecodeError, OSError) as error:
            raise RepositoryError(f"{folder / 'config.pbtxt'}: cut off or edited: {error}.") from error
        return max(policy.specific.versions or versions_of(folder), default=None)

    def _config(self, name: str, version: int, served_as: str) -> str:
        """Return the ``config.pbtxt`` under which a version is served; a version of old has none of its own."""
        folder = self.store.path / name / str(version)
        own = folder / "config.pbtxt" if (folder / "config.pbtxt").is_file() else folder.parent / "config.pbtxt"
        try:
            sha256 = read_record(folder / "manifest.json", _MANIFEST)["files"][config.MODEL_FILE]
            return config.dumps(config.served(config.loads(own.read_text()), served_as, version, sha256))
        except (RunError, KeyError, OSError, text_format.ParseError) as error:
            raise RepositoryError(f"{folder}: not a version that `pipeline publish` wrote: {error}") from error

    def _write(self, path: Path, text: str) -> None:
        with self.store.staging() as staging:
            (staging / path.name).write_text(text)
            self.store.replace_file(staging / path.name, path)

    def _put_candidate(self, name: str, version: int, text: str) -> None:
        model = self.store.path / name
        with self.store.staging() as staging:
            staged = staging / candidate_model(name)
            staged.mkdir()
            _link(model / str(version), staged / str(version))
            shutil.copyfile(model / config.LABELS_FILE, staged / config.LABELS_FILE)
            (staged / "config.pbtxt").write_text(text)
            self.store.put(staged, self.store.path / staged.name)


def _link(version: Path, target: Path) -> None:
    """Make a folder of the same files without copying their bytes, where the file system can."""
    target.mkdir()
    for file in version.iterdir():
        try:
            os.link(file, target / file.name)
        except OSError:
            shutil.copyfile(file, target / file.name)
