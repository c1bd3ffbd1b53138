"""Candidates side by side: all are served at once, and short rounds of load go to each in turn.

Measured one after the other, two of them would be compared at two speeds of the machine, if others work on it too.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Self

from pipeline.bench.serving import Measurement, Server
from pipeline.bench.serving.client import Clients
from pipeline.bench.serving.measure import measured
from pipeline.errors import ServerError
from pipeline.tune.search import Result
from pipeline.tune.served import Task, Unfit, served, target_of
from pipeline.tune.space import Candidate
from pipeline.tune.staircase import Staircase, settled

ROUNDS = 32


def compared(task: Task, candidates: Sequence[Candidate]) -> list[Result]:
    """Measure candidates side by side.

    Without a rate in the bounds, each one's rate goes up and down with its own rounds (`Staircase`), and its value is
    the rate at which it keeps the bound in every other round; with a rate, its value is of the median round.

    Raises:
        PipelineError: the run cannot be published, or there is no Triton.
    """
    with ExitStack() as stack:
        contenders = [stack.enter_context(_Contender(task, candidate)) for candidate in candidates]
        for number in range(ROUNDS):
            for contender in contenders if number % 2 == 0 else reversed(contenders):
                contender.ask(number)
        return [contender.result() for contender in contenders]


class _Contender:
    """One candidate, its server and its rounds; what goes wrong with it ends its own rounds and no other's."""

    def __init__(self, task: Task, candidate: Candidate) -> None:
        self._task, self._candidate = task, candidate
        self._rounds: list[Measurement] = []
        self._unfit = ""
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        task = self._task
        with ExitStack() as stack:
            stack.callback(self._stack.close)
            with self._guarded():
                self._server = self._stack.enter_context(served(task.run, self._candidate))
                target, expected = target_of(self._server), task.expected(self._candidate.variant)
                self._clients = self._stack.enter_context(Clients(target, task.texts, expected))
                self._staircase = Staircase(self._clients.texts_per_second(self._scenario(1)))
            stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        with self._guarded():
            self._stack.close()

    def ask(self, number: int) -> None:
        """Ask for one round."""
        if self._unfit:
            return
        with self._guarded():
            found = measured(self._clients, self._scenario(self._task.bounds.rate or self._staircase.level), number)
            if found.wrong:
                raise Unfit(found.faults[0])
            self._rounds.append(found)
            self._staircase.told(found.is_valid)

    def result(self) -> Result:
        """Return what the rounds came to."""
        if self._unfit:
            return Result.unfit(self._unfit)
        rounds = sorted(settled(self._rounds), key=lambda one: (not one.is_valid, one.latency_ms["p99"]))
        middle = rounds[(len(rounds) - 1) // 2]
        rate = self._task.bounds.rate
        decisive = rounds[0] if rate is None else middle
        return self._task.result(self._server, rate or self._staircase.value, middle.latency_ms["p99"], decisive)

    def _scenario(self, rate: float) -> Server:
        return Server(rate, self._task.bounds.p99_ms, self._task.seconds)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except (Unfit, ServerError) as error:
            self._unfit = self._unfit or str(Unfit.of(error))
