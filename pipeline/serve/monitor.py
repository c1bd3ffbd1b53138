"""Watch one started server: until it answers, through changes on disk, until it is lost or told to stop."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from threading import Event as Flag

from pipeline.client.access import Access
from pipeline.client.control import Busy, Control
from pipeline.errors import RepositoryError, RequestError, ServerError
from pipeline.repository import ModelOnDisk, scan
from pipeline.repository.aliases import CANDIDATE_SUFFIX
from pipeline.serve.layout import Options
from pipeline.serve.network import host_to_reach, is_listening
from pipeline.serve.process import Process, ServerLost, TooMuchMemory

TICK_SECONDS = 0.25
SCAN_SECONDS = 1.0
CANARY_SECONDS = 2.0
CANARY_TIMEOUT_SECONDS = 3.0
MAX_REFUSALS = 2
SILENCE_SECONDS = 30.0
STALL_SECONDS = 30.0  # what a machine with too much to do may hold up even a question that needs no model


@dataclass(frozen=True)
class Ready:
    """The server answers.

    Attributes:
        http: host and port, as for the other two.
        grpc: where inference is asked for.
        metrics: where Prometheus reads.
        models: the versions in service, by model.
        pid: the process number of Triton.
    """

    http: str
    grpc: str
    metrics: str
    models: dict[str, tuple[int, ...]]
    pid: int

    def after(self, loaded: "Loaded") -> "Ready":
        """Return what the server answers with once a model has changed."""
        models = {**self.models, loaded.model: loaded.versions}
        return replace(self, models={model: versions for model, versions in models.items() if versions})


@dataclass(frozen=True)
class Restarting:
    """The server was lost, and starts again after a pause."""

    reason: str
    pause_seconds: float


@dataclass(frozen=True)
class Loaded:
    """A model changed on disk and is now served as it lies there; without versions it was taken out of service."""

    model: str
    versions: tuple[int, ...]


@dataclass(frozen=True)
class LoadFailed:
    """A model changed on disk and could not be loaded, or does not answer; `versions` are in service."""

    model: str
    reason: str
    versions: tuple[int, ...]


Event = Ready | Restarting | Loaded | LoadFailed


class Monitor:
    """What watches one started server and keeps it at what lies on disk.

    Attributes:
        is_first: refuse a model that cannot be served; a server started again reports it and serves the others.
        on_disk: the repository as it was last looked at; at first, what the server was started with.
        health: of each model that has answered since it was loaded; no other can be lost.
    """

    def __init__(
        self, options: Options, process: Process, stop: Flag, is_first: bool, on_disk: dict[str, ModelOnDisk]
    ) -> None:
        self.options = options
        self.process = process
        self.stop = stop
        self.is_first = is_first
        self.host = host_to_reach(options.address)
        self.on_disk = on_disk
        self.health: dict[str, Health] = {}
        self.dead_stubs: set[int] = set()

    def run(self) -> Iterator[Event]:
        """Yield what happens until `stop` is set.

        Raises:
            ServerLost: the server ended, answers no more, or holds too much memory.
            ServerError: it cannot serve what it was asked to.
        """
        if not self._wait_for_ports():
            return
        with Control(f"{self.host}:{self.options.grpc_port}", Access(token=self.options.token)) as control:
            try:
                yield from self._begin(control)
                yield from self._watch(control)
            except RequestError as error:  # to a question that every living server answers
                self.process.check()
                raise ServerLost(f"Triton answers no more: {error}") from error

    def _wait_for_ports(self) -> bool:
        """Return True once the server listens, which it does when all models are loaded; False when told to stop."""
        deadline = time.monotonic() + self.options.timeout_seconds
        ports = (self.options.grpc_port, self.options.http_port, self.options.metrics_port)
        while not all(is_listening(self.host, port) for port in ports):
            self.process.check()
            if time.monotonic() > deadline:
                raise ServerError(
                    f"{self.options.repository}: still loading after {self.options.timeout_seconds:g} s. "
                    "Give it longer with --timeout-seconds, or see more with --log-verbose."
                )
            if self.stop.wait(TICK_SECONDS / 5):
                return False
        return True

    def _begin(self, control: Control) -> Iterator[Event]:
        failures, versions = control.failures(), control.versions()
        for model in self.on_disk.keys() - failures.keys() - versions.keys():  # not even its configuration was read
            failures[model] = self.process.error_about(model) or "Triton gives no reason; see --log-verbose"
        for model in versions:
            try:
                self._expect_answer(control, model)
            except RequestError as error:
                self.process.check()
                failures[model] = str(error)
        for model, reason in failures.items():
            if self.is_first and not model.endswith(CANDIDATE_SUFFIX):  # a bad candidate is no one's server's end
                raise ServerError(f"{self.options.repository / model}: cannot be served: {reason}")
            yield LoadFailed(model, reason, control.versions().get(model, ()))
        self._check_memory()
        yield Ready(
            http=f"{self.host}:{self.options.http_port}",
            grpc=f"{self.host}:{self.options.grpc_port}",
            metrics=f"{self.host}:{self.options.metrics_port}",
            models=control.versions(),
            pid=self.process.pid,
        )

    def _watch(self, control: Control) -> Iterator[Event]:
        next_scan = next_canary = time.monotonic()
        while not self.stop.wait(TICK_SECONDS):
            self.process.check()
            if time.monotonic() >= next_scan:
                self._check_stubs()
                self._check_memory()
                yield from self._follow_disk(control)
                next_scan = time.monotonic() + SCAN_SECONDS
            if time.monotonic() >= next_canary:
                self._forget_unloaded(control)
                for model, health in self.health.items():
                    health.check(control, model)
                next_canary = time.monotonic() + CANARY_SECONDS

    def _forget_unloaded(self, control: Control) -> None:
        """Watch no more what somebody else unloaded: it is not lost."""
        try:
            in_service = control.versions(STALL_SECONDS)
        except Busy:
            raise
        except RequestError:  # Triton's list walks the repository, which is out of reach; its models answer still
            return
        self.health = {model: health for model, health in self.health.items() if model in in_service}

    def _check_stubs(self) -> None:
        """Notice a dead stub even where other instances of its model answer.

        Raises:
            ServerLost: Triton has left a stub dead since the last look.
        """
        dead = self.process.dead_stubs()
        if dead & self.dead_stubs:
            raise ServerLost("a model's backend process died")
        self.dead_stubs = dead

    def _check_memory(self) -> None:
        """Notice memory that is never given back before the machine has none left.

        Raises:
            TooMuchMemory: Triton and its stubs hold more than they may.
        """
        limit = self.options.max_memory_bytes
        if limit and (held := self.process.memory_bytes()) > limit:
            raise TooMuchMemory(
                f"Triton holds {held / 1e6:,.0f} MB of memory, more than the {limit / 1e6:,.0f} of --max-memory-mb"
            )

    def _follow_disk(self, control: Control) -> Iterator[Event]:
        """Load what changed on disk since the last look."""
        try:
            now = scan(self.options.repository, self.options.models)
        except RepositoryError:  # out of reach; what is in service stays there
            return
        before, self.on_disk = self.on_disk, now
        for model in sorted(now.keys() | before.keys()):
            if now.get(model) != before.get(model):
                yield self._follow(control, model, now.get(model))

    def _follow(self, control: Control, model: str, on_disk: ModelOnDisk | None) -> Event:
        self.health.pop(model, None)
        try:
            if on_disk is None:
                control.unload(model, self.options.timeout_seconds)
            else:
                self._load(control, model)
        except RequestError as error:
            self.process.check()
            return LoadFailed(model, str(error), control.versions().get(model, ()))
        return Loaded(model, control.versions().get(model, ()))

    def _load(self, control: Control, model: str) -> None:
        try:
            control.load(model, self.options.timeout_seconds)
        finally:  # the old version goes on answering, and being watched, when the new one cannot be loaded
            if model in control.versions():
                self._expect_answer(control, model)

    def _expect_answer(self, control: Control, model: str) -> None:
        control.ask(model, self.options.timeout_seconds)
        self.health[model] = Health(control.answered(model))


@dataclass
class Health:
    """What the last questions to one model showed.

    A stub that died leaves a server that says it is ready, and fails every request after a second. A server with too
    much to do fails to answer in time, too, but its statistics show that it answers others.
    """

    answered: int
    refusals: int = 0
    silent_since: float | None = None

    def check(self, control: Control, model: str) -> None:
        """Ask the model something small.

        Raises:
            ServerLost: it refused twice in a row, or it and everyone else has had no answer for long.
        """
        try:
            control.ask(model, CANARY_TIMEOUT_SECONDS)
            self.refusals, self.silent_since = 0, None
        except Busy as error:
            self._wait_on(control.answered(model, STALL_SECONDS), f"{model} answers no more: {error}")
        except RequestError as error:
            self.refusals += 1
            if self.refusals >= MAX_REFUSALS:
                raise ServerLost(f"{model} answers no more: {error}") from error

    def _wait_on(self, answered: int, reason: str) -> None:
        now = time.monotonic()
        if answered != self.answered or self.silent_since is None:
            self.answered, self.silent_since = answered, now
        elif now - self.silent_since > SILENCE_SECONDS:
            raise ServerLost(reason)
