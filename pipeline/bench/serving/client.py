"""The client's own process: spawned, so that it shares neither interpreter nor threads with what is measured."""

import importlib.util
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection as PipeEnd
from types import TracebackType
from typing import Any, Self

from pipeline.bench.serving.scenarios import Offline, Scenario, Server
from pipeline.bench.serving.targets import Connection, Done, Labels, Target
from pipeline.errors import PipelineError, ServerError, UsageError
from pipeline.spawn import spawned

PATIENCE_SECONDS = 120.0  # and one for each text, and ten times what a scenario takes
_CEILING_TEXTS = 4096


class Clients:
    """Clients in processes of their own, connected to one target.

    Several share a `Server`'s rate: independent Poisson streams add up to one.

    Args:
        target: whom to ask.
        texts: what to ask with.
        expected: the label of each text; None to compare nothing.
        processes: how many.

    Raises:
        UsageError: LoadGen is not installed, or there is nothing to ask with.
        ServerError: a client cannot connect.
    """

    def __init__(
        self, target: Target, texts: Sequence[bytes], expected: Sequence[str] | None = None, processes: int = 1
    ) -> None:
        if importlib.util.find_spec("mlperf_loadgen") is None:
            raise UsageError("mlcommons-loadgen is not installed: it makes the load. `pip install 'pipeline[bench]'`.")
        if not texts or (expected is not None and len(expected) != len(texts)):
            raise UsageError(f"got {len(texts)} texts and {len(expected or ())} expected labels; wanted one for each.")
        self.target, self.is_checked, self.processes = target, expected is not None, processes
        self._texts, self._ceilings = list(texts), dict[type, float]()
        with ExitStack() as stack:
            self._clients = [stack.enter_context(_Client(target)) for _ in range(processes)]
            self._ask("connect", [(target, self._texts, expected)] * processes)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def run(self, scenario: Scenario, seed: int = 0) -> list[Any]:
        """Run one scenario; return the `Outcome` of each client that took part: only one where there is one caller.

        Raises:
            ServerError: a client died, or a request was left without any answer.
        """
        processes = self.processes if isinstance(scenario, Server | Offline) else 1
        share = replace(scenario, rate=scenario.rate / processes) if isinstance(scenario, Server) else scenario
        jobs = [(share, seed + number) for number in range(processes)]
        return self._ask("run", jobs, 10 * scenario.seconds)

    def texts_per_second(self, scenario: Scenario) -> float:
        """Return how many texts are answered a second with about as much in flight as a scenario has; a warm-up."""
        return float(sum(self._ask("warm_up", [(scenario,)] * self.processes)))

    def ceiling_per_second(self, scenario: Scenario) -> float:
        """Return how many texts a second LoadGen and its bookkeeping let one client ask, the protocol's work aside."""
        kind = type(scenario)
        if kind not in self._ceilings:
            (self._ceilings[kind],) = self._ask("ceiling", [(scenario,)])
        return self._ceilings[kind]

    def answers(self) -> Labels:
        """Return the label that the target gives each text alone.

        Raises:
            ServerError: a text has no answer.
        """
        (labels,) = self._ask("answers", [()])
        return list(labels)

    def _ask(self, job: str, arguments: Sequence[tuple[Any, ...]], seconds: float = 0) -> list[Any]:
        asked = list(zip(self._clients, arguments, strict=False))
        for client, its in asked:
            client.send((job, its))
        return [client.receive(PATIENCE_SECONDS + len(self._texts) + seconds) for client, _ in asked]


class _Client:
    """One process."""

    def __init__(self, target: Target) -> None:
        self._name = target.name
        self._pipe, its_pipe = Pipe()
        self._process = spawned(work, its_pipe)
        its_pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipe.close()  # it reads the end, and ends
        self._process.join(0.0 if error else 10.0)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def send(self, job: tuple[str, tuple[Any, ...]]) -> None:
        """Give it something to do."""
        try:
            self._pipe.send(job)
        except OSError as error:
            raise self._died() from error

    def receive(self, patience_seconds: float) -> Any:
        """Wait for what it says, and raise what it raised."""
        if not self._pipe.poll(patience_seconds):
            raise ServerError(f"{self._name}: a request had neither answer nor error for {patience_seconds:.0f} s.")
        try:
            result = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise self._died() from error
        if isinstance(result, PipelineError):
            raise result
        return result

    def _died(self) -> ServerError:
        self._process.join()
        return ServerError(f"{self._name}: its client died with exit code {self._process.exitcode}.")


class _Null(Connection):
    """A target that answers at once."""

    is_remote = False

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size

    def encode(self, texts: Sequence[bytes]) -> Labels:
        return [""] * len(texts)

    def ask(self, request: Labels, done: Done) -> None:
        done(request)

    def close(self) -> None:
        pass


def work(pipe: PipeEnd) -> None:
    """Do what the other end of the pipe asks for, until it is closed."""
    with pipe, ExitStack() as stack:
        worker = _Worker(stack)
        while True:
            try:
                job, arguments = pipe.recv()
            except EOFError:
                return
            try:
                result = getattr(worker, job)(*arguments)
            except ServerError as error:
                result = ServerError(f"{worker.name}: {error}")
            except PipelineError as error:
                result = error
            except Exception as error:  # noqa: BLE001  of a target, which may be anybody's; the parent raises it
                result = ServerError(f"{worker.name}: {type(error).__name__}: {error}")
            pipe.send(result)


class _Worker:
    def __init__(self, stack: ExitStack) -> None:
        self.name = ""
        self._stack = stack

    def connect(self, target: Target, texts: list[bytes], expected: Sequence[str] | None) -> None:
        from pipeline.bench.serving.loadgen import LoadTest

        self.name = target.name
        connection = target.connect()
        self._stack.callback(connection.close)
        self._test = LoadTest(connection, texts, expected)

    def run(self, scenario: Scenario, seed: int) -> Any:
        return self._test.run(scenario, seed)

    def warm_up(self, scenario: Scenario) -> float:
        return self._test.warm_up(scenario)

    def answers(self) -> Labels:
        return self._test.answers()

    def ceiling(self, scenario: Scenario) -> float:
        from pipeline.bench.serving.loadgen import LoadTest

        test = self._test
        null = _Null(test.connection.batch_size if isinstance(scenario, Offline) else 1)
        texts = LoadTest(null, [b""] * _CEILING_TEXTS, [""] * _CEILING_TEXTS, warm_up_seconds=0)
        outcome = texts.run(Offline(0))
        return float(outcome.samples / outcome.seconds)
