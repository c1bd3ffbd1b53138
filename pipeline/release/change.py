"""Change which version is production, and remove versions; a version is proven before it answers anybody."""

from pathlib import Path

from pipeline.errors import RepositoryError
from pipeline.repository.aliases import Aliases
from pipeline.repository.transaction import WAIT_SECONDS, Repository


def promote(
    repository: Path,
    name: str,
    version: int | None = None,
    *,
    reason: str = "promoted",
    wait_seconds: float = WAIT_SECONDS,
) -> int:
    """Make a version production, and return it; a candidate that is promoted is no longer candidate.

    Args:
        repository: the model repository.
        name: the model.
        version: one of its versions; the candidate by default.
        reason: for the history.
        wait_seconds: how long to wait while somebody else changes the repository.

    Raises:
        CheckFailed: its files are not those that were published, or it does not answer as it was verified.
        PipelineError: its model does not load.
        RepositoryError: there is no candidate, or nothing can be written.
        UsageError: there is no such model or version.
    """
    store = Repository(repository)
    aliases = Aliases(store)
    aliases.require_model(name)
    with store.locked(wait_seconds):
        number = aliases.candidate(name) if version is None else version
        if number is None:
            raise RepositoryError(
                f"{repository / name}: no candidate. Name a version: `pipeline promote {name} VERSION`."
            )
        _make_production(aliases, name, number, reason)
    return number


def rollback(
    repository: Path,
    name: str,
    to: int | None = None,
    *,
    reason: str = "rolled back",
    wait_seconds: float = WAIT_SECONDS,
) -> int:
    """Make the version production that was so before this one, and return it; once more goes back further.

    Args:
        repository: the model repository.
        name: the model.
        to: a version that was production at some time; the last one before this by default.
        reason: for the history.
        wait_seconds: how long to wait while somebody else changes the repository.

    Raises:
        CheckFailed, PipelineError: as `promote`.
        RepositoryError: there is none to go back to, or nothing can be written.
        UsageError: there is no such model or version.
    """
    store = Repository(repository)
    aliases = Aliases(store)
    aliases.require_model(name)
    with store.locked(wait_seconds):
        number = aliases.previous_production(name) if to is None else _once_production(aliases, name, to)
        if number is None:
            raise RepositoryError(f"{repository / name}: no earlier production to go back to.")
        _make_production(aliases, name, number, reason, is_rollback=True)
    return number


def retire(repository: Path, name: str, version: int, *, wait_seconds: float = WAIT_SECONDS) -> None:
    """Remove a version for good; its number is never given again.

    Raises:
        RepositoryError: an alias names it, or nothing can be written.
        UsageError: there is no such model or version.
    """
    store = Repository(repository)
    aliases = Aliases(store)
    aliases.require_model(name)
    with store.locked(wait_seconds):
        aliases.retire(name, version, "retired")


def _make_production(aliases: Aliases, name: str, version: int, reason: str, *, is_rollback: bool = False) -> None:
    proven = aliases.require(name, version)
    proven.require_whole()
    proven.require_answers()
    aliases.set_production(name, version, reason, is_rollback=is_rollback)


def _once_production(aliases: Aliases, name: str, version: int) -> int:
    changes = [change for change in aliases.history(name) if change.alias == "production"]
    if version not in {number for change in changes for number in (change.before, change.after)}:
        raise RepositoryError(
            f"{aliases.store.path / name}: version {version} was never production. `pipeline promote {name} {version}`."
        )
    return version
