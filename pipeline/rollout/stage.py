"""Bring a candidate into production on a running server, or put everything back as it was."""

import fcntl
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event as Flag

from pipeline.errors import PipelineError, RepositoryError, UsageError
from pipeline.repository.aliases import Aliases
from pipeline.repository.goldens import Goldens
from pipeline.repository.transaction import Repository
from pipeline.rollout.attempt import Attempt
from pipeline.rollout.live import Live
from pipeline.rollout.record import Record, RollingBack, Step
from pipeline.rollout.shadow import Trial

Event = Step | RollingBack | Record


def rollout(
    name: str,
    repository: Path,
    live: Live,
    stop: Flag,
    trial: Trial | None = None,
    make_candidate: Callable[[], None] = lambda: None,
) -> Generator[Event, None, None]:
    """Roll out a model's candidate; where there is none, bring the server to what is production.

    Yields each step as it passes, and at the end the record; a candidate's is also left as ``NAME/rollout.json``.

    Args:
        name: the model; one of its versions is production.
        repository: the model repository that the server serves.
        live: the server.
        stop: set it to give up; everything is put back as it was.
        trial: what the candidate must show beside production; nothing, by default, but its golden rows.
        make_candidate: called once no other rollout of the model is under way, whose candidate it would replace.

    Raises:
        CheckFailed: the candidate failed a check, and is no candidate any more. Production is what it was.
        PipelineError: the rollout could not go on, or `stop` was set. Production is what it was, the candidate still
            one. Or the way back was barred: the message says what is where, and what mends it.
        UsageError: there is no such model, or none of its versions is production.
    """
    store = Repository(repository)
    _require_ready(name, repository, live)
    with _only_one(store, name):
        before = _require_ready(name, repository, live)  # another rollout may just have changed it
        make_candidate()
        version = Aliases(store).candidate(name)
        record = Record(name, live.url, version or before, before)
        if version is None:
            goldens = Goldens.load(repository / name / str(before))
            yield record.passed("production answers", lambda: live.settle(name, goldens))
            record.outcome = "rolled out"
            yield record
            return
        yield from _attempted(Attempt(store, live, record, trial, stop), repository / name)


def _require_ready(name: str, repository: Path, live: Live) -> int:
    """Return the version that is production, before anything is touched.

    Raises:
        UsageError: there is no such model, or none of its versions is production.
        ServerError: the server cannot be reached, or wants a token.
    """
    aliases = Aliases(Repository(repository))
    before = aliases.production(name) if name in aliases.models() else None
    if before is None:
        models = ", ".join(aliases.models()) or "none"
        raise UsageError(
            f"{name}: no version of it is production in {repository}, so there is none to go back to; it has {models}. "
            "`pipeline publish` puts a first version into production."
        )
    live.require_access(name)
    return before


def _attempted(attempt: Attempt, model: Path) -> Iterator[Event]:
    try:
        yield from attempt.forward()
    except (PipelineError, OSError) as error:
        try:
            yield RollingBack(str(error))
        finally:  # also when nobody listens any more
            verdict = attempt.give_up(error)
            with suppress(PipelineError):  # a full disk must not hide what happened
                attempt.record.save(model)
        yield attempt.record
        raise verdict from error
    except BaseException:
        attempt.back(is_judged=False)
        raise
    attempt.record.outcome = "rolled out"
    try:
        yield attempt.tidy_up()
    finally:
        attempt.record.save(model)
    yield attempt.record


@contextmanager
def _only_one(store: Repository, name: str) -> Iterator[None]:
    """Keep a second rollout of the same model out.

    Raises:
        RepositoryError: one is under way, or the repository cannot be written.
    """
    try:
        with (store.path / f".rollout-{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
    except BlockingIOError as error:
        raise RepositoryError(f"{store.path / name}: another rollout of it is under way. Try again later.") from error
