"""One candidate's way into production, and the way back.

Production changes only after the candidate kept every promise on that very server, as a model of its own that no caller
reaches. The way back looks at what is, not at what was done: it is the same after every step, and after a step that was
cut off in its middle.
"""

from collections.abc import Callable, Iterator
from functools import partial
from threading import Event as Flag

from pipeline.errors import CheckFailed, PipelineError, RepositoryError, ServerError
from pipeline.repository.aliases import Aliases, candidate_model
from pipeline.repository.goldens import Goldens
from pipeline.repository.transaction import Repository
from pipeline.repository.version import Version
from pipeline.rollout.live import Live, patiently
from pipeline.rollout.record import Figures, Record, Step
from pipeline.rollout.shadow import Trial


class Attempt:
    """An attempt to make a candidate production.

    Attributes:
        record: which version of which model on which server, and the steps that passed.
        trial: what the candidate must show beside production.
        stop: set it to give up.
    """

    def __init__(self, store: Repository, live: Live, record: Record, trial: Trial | None, stop: Flag) -> None:
        self.store = store
        self.live = live
        self.record = record
        self.trial = trial
        self.stop = stop
        self.name = record.name
        self.candidate = candidate_model(record.name)
        self.aliases = Aliases(store)
        self.was_served = bool(live.versions(record.name))

    def forward(self) -> Iterator[Step]:
        """Yield the steps as they pass.

        Raises:
            CheckFailed: the candidate failed a check.
            PipelineError: a step could not be taken, or `stop` was set.
        """
        live, version = self.live, self.record.version
        yield self._step("files are whole", self._version(version).require_whole)
        goldens = self._goldens(version)
        yield self._step("candidate is loaded", partial(live.load, self.candidate))
        yield self._step("candidate is warm", partial(live.warm, self.candidate, goldens))
        yield self._step("candidate answers", partial(live.require_answers, self.candidate, goldens, version))
        if self.trial:
            yield self._step("candidate compares", partial(self._compare, self.trial))
        yield self._step("candidate is production", self._promote)
        yield self._step("production answers", partial(live.settle, self.name, goldens))

    def give_up(self, reason: Exception) -> PipelineError:
        """Put everything back as it was, and return what to raise; it says if that, too, failed."""
        is_judged = isinstance(reason, CheckFailed)
        said = f"{self.name}: version {self.record.version} was not rolled out: {str(reason).rstrip('.')}."
        self.record.reason = str(reason)
        try:
            self.back(is_judged)
        except (PipelineError, OSError) as error:
            return PipelineError(f"{said} Going back failed too: {str(error).rstrip('.')}. {self._whereabouts()}")
        self.record.outcome = "rolled back"
        kind = CheckFailed if is_judged else PipelineError
        answers = ", and answers," if self.was_served else ""
        return kind(f"{said} Version {self.record.before} is production{answers} as before.")

    def back(self, is_judged: bool) -> None:
        """Put everything back as it was, on disk first, then on the server; wait for one that is being started again.

        Args:
            is_judged: the candidate failed a check, and is to be none any more.

        Raises:
            CheckFailed: the version of before is not what it was.
            ServerError: the server is gone.
            RepositoryError: the repository cannot be changed.
        """
        before, version = self.record.before, self.record.version
        with self.store.locked():
            if self.aliases.production(self.name) == version:
                self.aliases.set_production(self.name, before, "its rollout failed", is_rollback=True)
            if self.aliases.candidate(self.name) in (version, None):  # else somebody has put another one there
                self.aliases.set_candidate(self.name, None if is_judged else version, "its rollout failed")
        patiently(self._serve_as_before, ServerError, self.live.timeout_seconds)

    def tidy_up(self) -> Step:
        """Unload what was the candidate.

        Raises:
            ServerError: it could not be unloaded.
        """
        try:
            return self.record.passed("candidate is unloaded", partial(self.live.unload, self.candidate))
        except ServerError as error:
            raise ServerError(
                f"{self.name}: version {self.record.version} is production, and answers; what was its candidate could "
                f"not be unloaded: {error}"
            ) from error

    def _step(self, name: str, work: Callable[[], Figures | None]) -> Step:
        if self.stop.is_set():
            raise PipelineError("interrupted")
        return self.record.passed(name, work)

    def _compare(self, trial: Trial) -> Figures:
        candidate = self.live.client(self.candidate, self.record.version)
        return trial.run(self.live.client(self.name), candidate, self.stop)

    def _promote(self) -> None:
        version = self.record.version
        with self.store.locked():
            if self.aliases.candidate(self.name) != version:
                raise RepositoryError(f"{self.store.path / self.name}: version {version} is no longer the candidate.")
            self._version(version).require_whole()
            self.aliases.set_production(self.name, version, f"rolled out on {self.live.url}")

    def _serve_as_before(self) -> None:
        if self.was_served:
            self.live.settle(self.name, self._goldens(self.record.before))
        else:
            self.live.unload(self.name)
        self.live.unload(self.candidate)

    def _version(self, number: int) -> Version:
        return Version(self.store.path / self.name / str(number))

    def _goldens(self, number: int) -> Goldens:
        return Goldens.load(self.store.path / self.name / str(number))

    def _whereabouts(self) -> str:
        """Say what is where, and what mends it."""
        production, candidate = self.aliases.production(self.name), self.aliases.candidate(self.name)
        try:
            serving = ", ".join(map(str, self.live.versions(self.name))) or "none"
            server = f"{self.live.url} answers from version {serving}"
        except ServerError:
            server = f"{self.live.url} does not answer"
        mend = f"`pipeline rollout {self.name} --url {self.live.url} --repository {self.store.path}`"
        if production != self.record.before:
            mend = f"`pipeline rollback {self.name} --repository {self.store.path}`, then {mend}"
        on_disk = f"On disk production is version {production}, the candidate {candidate or 'none'}"
        return f"{on_disk}; {server}. Mend with {mend}."
