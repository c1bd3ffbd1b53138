"""Which version of a model is production, and which is the candidate.

``NAME/config.pbtxt`` names one version in its version policy: that is production, and one rename of that file changes
it. The candidate is a model of its own, ``NAME.candidate``, which no request to ``NAME`` reaches: its folder holds the
version by hard links and its own ``config.pbtxt``, and appears and goes by one rename. A version is never both; the
folder of a candidate that became production stands for none, and goes with the next change.

Whoever changes an alias holds `Repository.locked`; reading needs no lock::

    with store.locked():
        Aliases(store).set_production("sentiment", 3, "promoted")
"""

import contextlib
import os
import shutil
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from pipeline.errors import RepositoryError, UsageError
from pipeline.repository import config, history
from pipeline.repository.config import CONFIG_FILE, LABELS_FILE
from pipeline.repository.history import Alias, Change
from pipeline.repository.scan import versions_of
from pipeline.repository.transaction import Repository
from pipeline.repository.version import Version

CANDIDATE_SUFFIX = ".candidate"


def candidate_model(name: str) -> str:
    """Return the name under which a server knows the candidate of a model."""
    return name + CANDIDATE_SUFFIX


class Aliases:
    """The aliases of a repository's models."""

    def __init__(self, store: Repository) -> None:
        self.store = store

    def models(self) -> list[str]:
        """Return the names of the models; a candidate is none.

        Raises:
            UsageError: there is no such repository.
        """
        try:
            folders = sorted(path.name for path in self.store.path.iterdir() if path.is_dir())
        except OSError as error:
            raise UsageError(f"{self.store.path}: not a model repository: {error.strerror}.") from error
        return [name for name in folders if not name.startswith(".") and not name.endswith(CANDIDATE_SUFFIX)]

    def require_model(self, name: str) -> None:
        """Refuse a name that is no model's.

        Raises:
            UsageError: there is no such model.
        """
        if name not in (models := self.models()):
            raise UsageError(f"{name}: no such model in {self.store.path}. It has: {', '.join(models) or 'none'}.")

    def require(self, name: str, version: int) -> Version:
        """Return a version of a model.

        Raises:
            UsageError: there is no such model or version.
        """
        self.require_model(name)
        if version not in (versions := self.store.versions(name)):
            there = ", ".join(map(str, versions)) or "none"
            raise UsageError(f"{self.store.path / name}: no version {version}. It has: {there}.")
        return Version(self.store.path / name / str(version))

    def production(self, name: str) -> int | None:
        """Return the version that answers requests to ``NAME``; None before the first.

        In a repository from before aliases it is the newest.

        Raises:
            RepositoryError: ``config.pbtxt`` is damaged.
        """
        return self._named(name)

    def candidate(self, name: str) -> int | None:
        """Return the version that answers requests to ``NAME.candidate``, if there is one.

        Raises:
            RepositoryError: ``config.pbtxt`` is damaged.
        """
        version = self._named(candidate_model(name))
        return None if version == self.production(name) else version

    def named(self, name: str) -> dict[Alias, int | None]:
        """Return the version that each alias names."""
        return {"production": self.production(name), "candidate": self.candidate(name)}

    def history(self, name: str) -> list[Change]:
        """Return the changes that were made, oldest first.

        Raises:
            RepositoryError: it cannot be read.
        """
        seen = None
        while seen != (seen := self._seen(name)):  # else somebody changed it while we looked
            pass
        return history.came_true(*seen)

    def previous_production(self, name: str) -> int | None:
        """Return the version that a rollback goes back to, if there is one."""
        return history.previous_production(self.history(name), versions_of(self.store.path / name))

    def next_number(self, name: str) -> int:
        """Return the number of the next version: no number is given twice, a retired version's neither."""
        changes = history.read(self.store.path / name)
        numbers = [change.after or 0 for change in changes]
        return max([*self.store.versions(name), *numbers], default=0) + 1

    def own_config(self, name: str, version: int) -> Any:
        """Return a version's own configuration; one that was published without gets what its model is served with.

        Raises:
            RepositoryError: it is missing or damaged.
        """
        folder = self.store.path / name
        own = _read(folder / str(version) / CONFIG_FILE) or _read(folder / CONFIG_FILE)
        if own is None:
            raise RepositoryError(f"{folder / str(version) / CONFIG_FILE}: missing. Publish the run again.")
        return own

    def served_config(self, name: str, version: int, model: str) -> str:
        """Return the ``config.pbtxt`` under which a version of ``NAME`` is served as a model.

        Raises:
            RepositoryError: the version is damaged.
        """
        files = Version(self.store.path / name / str(version)).manifest["files"]
        return config.dumps(config.served(self.own_config(name, version), model, version, files[config.MODEL_FILE]))

    def pin(self, name: str) -> None:
        """Name production in the version policy, where it was only the newest version so far."""
        served, production = _read(self.store.path / name / CONFIG_FILE), self.production(name)
        if production and served and not served.version_policy.HasField("specific"):
            self.set_production(name, production, "")

    def set_production(self, name: str, version: int, reason: str, *, is_rollback: bool = False) -> None:
        """Let requests to ``NAME`` be answered by a version; if it was the candidate, it is so no longer.

        Args:
            name: the model.
            version: one of its versions.
            reason: for the history.
            is_rollback: it goes back: the version before this one shall not be what a next rollback returns to.

        Raises:
            UsageError: there is no such version.
            RepositoryError: nothing can be written.
        """
        self.require(name, version)
        wanted = self.served_config(name, version, name)
        self.tidy(name)
        changes = []
        if (before := self.production(name)) != version:
            changes.append(Change.now("production", before, version, reason, is_rollback=is_rollback))
        if self.candidate(name) == version:
            changes.append(Change.now("candidate", version, None, reason))
        self._record(name, changes)
        self.store.write_text(self.store.path / name / CONFIG_FILE, wanted)
        self._try_to_tidy(name)

    def set_candidate(self, name: str, version: int | None, reason: str) -> None:
        """Let requests to ``NAME.candidate`` be answered by a version, or by none.

        Raises:
            UsageError: there is no such version.
            RepositoryError: it is production, or nothing can be written.
        """
        self.tidy(name)
        before = self.candidate(name)
        if version == before:
            return
        changes = [Change.now("candidate", before, version, reason)]
        if version is None:
            self._record(name, changes)
            self.store.remove(self.store.path / candidate_model(name))
            return
        if version == self.production(name):
            raise RepositoryError(f"{self.store.path / name}: version {version} is production, and cannot be both.")
        self.require(name, version)
        wanted = self.served_config(name, version, candidate_model(name))
        self._record(name, changes)
        if before is None:
            self._put_candidate(name, version, wanted)
        else:
            self._change_candidate(name, version, wanted)
        self._try_to_tidy(name)

    def retire(self, name: str, version: int, reason: str) -> None:
        """Take a version out of the repository for good.

        Raises:
            UsageError: there is no such version.
            RepositoryError: an alias names it, or nothing can be written.
        """
        self.require(name, version)
        self.tidy(name)
        for alias, named in self.named(name).items():
            if version == named:
                raise RepositoryError(f"{self.store.path / name}: version {version} is {alias}; it cannot be retired.")
        self._record(name, [Change.now("retired", None, version, reason)])
        self.store.remove(self.store.path / name / str(version))

    def tidy(self, name: str) -> None:
        """Remove what a change, or one that was cut off, left of a candidate that is none any more."""
        folder = self.store.path / candidate_model(name)
        candidate = self.candidate(name)
        if candidate is None:
            self.store.remove(folder)
        for version in versions_of(folder):
            if version != candidate:
                self.store.remove(folder / str(version))

    def _try_to_tidy(self, name: str) -> None:
        """Tidy after a change that was made; what cannot be removed counts for nothing, and goes with the next one."""
        with contextlib.suppress(RepositoryError):
            self.tidy(name)

    def _seen(self, name: str) -> tuple[list[Change], dict[Alias, int | None], tuple[int, ...]]:
        folder = self.store.path / name
        return history.read(folder), self.named(name), versions_of(folder)

    def _named(self, model: str) -> int | None:
        """Return the version that Triton answers from when it is asked for none."""
        folder = self.store.path / model
        served = _read(folder / CONFIG_FILE)
        return max(served.version_policy.specific.versions or versions_of(folder), default=None) if served else None

    def _record(self, name: str, changes: list[Change]) -> None:
        """Write changes into the history, ahead of making them."""
        if changes:
            text = history.dumps([*self.history(name), *changes])
            self.store.write_text(self.store.path / name / history.HISTORY_FILE, text)

    def _put_candidate(self, name: str, version: int, text: str) -> None:
        model = self.store.path / name
        with self.store.staging() as staging:
            staged = staging / candidate_model(name)
            staged.mkdir()
            _link(model / str(version), staged / str(version))
            shutil.copyfile(model / LABELS_FILE, staged / LABELS_FILE)
            (staged / CONFIG_FILE).write_text(text)
            self.store.put(staged, self.store.path / staged.name)

    def _change_candidate(self, name: str, version: int, text: str) -> None:
        folder = self.store.path / candidate_model(name)
        with self.store.staging() as staging:
            _link(self.store.path / name / str(version), staging / str(version))
            self.store.put(staging / str(version), folder / str(version))
        self.store.write_text(folder / CONFIG_FILE, text)


def _read(path: Path) -> Any | None:
    """Return a configuration, or None where there is no such file."""
    try:
        return config.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (text_format.ParseError, UnicodeDecodeError, OSError) as error:
        raise RepositoryError(
            f"{path}: cut off or edited: {error}. Take it away, then `pipeline promote NAME VERSION` makes it anew."
        ) from error


def _link(version: Path, target: Path) -> None:
    """Make a folder of the same files without copying their bytes, where the file system can."""
    target.mkdir()
    for file in version.iterdir():
        try:
            os.link(file, target / file.name)
        except OSError:
            shutil.copyfile(file, target / file.name)
