"""One running server: told what to load, and asked whether it answers as it must."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import TypeVar

from pipeline.client import Access, Client, Prediction
from pipeline.client.control import Busy, Control
from pipeline.errors import CheckFailed, RequestError, ServerError
from pipeline.repository.goldens import Goldens

PAUSE_SECONDS = 0.2
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Live:
    """A running server, reached anew for every question, so that one that was started again is found again.

    Attributes:
        url: host and gRPC port of the server.
        access: how it is reached; loading wants the server's token, where it has one.
        timeout_seconds: how long one load, one unload or one answer may take.
    """

    url: str
    access: Access
    timeout_seconds: float = 60

    def versions(self, model: str) -> tuple[int, ...]:
        """Return the versions of a model that answer.

        Raises:
            ServerError: no server answers, or it wants a token.
        """
        with self._control() as control:
            return control.versions().get(model, ())

    def require_access(self, model: str) -> None:
        """Ask what only the token opens: a gateway may show its own for the questions that every caller asks.

        Raises:
            ServerError: no server answers, or it wants a token.
        """
        if self.versions(model):
            with self._control() as control:
                control.statistics(model)

    def load(self, model: str) -> None:
        """Let the server read a model's folder again; what was in service stays until the new version is ready.

        Raises:
            CheckFailed: the server refused; what was in service still is.
            ServerError: it cannot be reached.
        """
        with self._control() as control:
            try:
                control.load(model, self.timeout_seconds)
            except Busy:
                raise
            except RequestError as error:
                raise CheckFailed(f"{self.url}: {model} could not be loaded: {error}") from error

    def unload(self, model: str) -> None:
        """Take a model out of service, if it is there; its requests under way are answered.

        Raises:
            ServerError: the server cannot be reached.
        """
        with self._control() as control:
            control.unload(model, self.timeout_seconds)

    def settle(self, model: str, goldens: Goldens) -> dict[str, float]:
        """Load a model until one version alone answers, and answers as it was verified; return the figures.

        Raises:
            CheckFailed: the server refused to load it, serves another version, or answers otherwise.
            ServerError: it cannot be reached.
        """
        self.load(model)
        wanted, deadline = (goldens.version,), time.monotonic() + self.timeout_seconds
        while (serving := self.versions(model)) != wanted:
            if time.monotonic() > deadline:
                raise CheckFailed(f"{self.url}: {model}: serving {_words(serving)}, wanted {_words(wanted)}.")
            time.sleep(PAUSE_SECONDS)
        with self._control() as control:
            policy = tuple(control.config(model).version_policy.specific.versions)
        if policy not in (wanted, ()):  # a configuration from before aliases names none
            raise CheckFailed(f"{self.url}: {model}: configured for {_words(policy)}, wanted {_words(wanted)}.")
        return self.require_answers(model, goldens)

    def warm(self, model: str, goldens: Goldens) -> dict[str, float]:
        """Ask one golden row, then as many as the largest batch holds; return how long each took.

        Raises:
            CheckFailed: the server refused a row.
            ServerError: it cannot be reached.
        """
        with self._asking(model, goldens.version) as client:
            whole = _batch(client, goldens)
            begun = time.monotonic()
            client.classify([goldens.rows[0].row])
            first = time.monotonic()
            client.classify([golden.row for golden in whole.rows])
        return {"first_ms": 1000 * (first - begun), "batch_ms": 1000 * (time.monotonic() - first)}

    def require_answers(self, model: str, goldens: Goldens, version: int | None = None) -> dict[str, float]:
        """Ask the golden rows one by one and in the largest batch; return how many answers were right.

        Args:
            model: the model to ask.
            goldens: its verified answers.
            version: ask this version alone; whichever the server chooses by default.

        Raises:
            CheckFailed: an answer is not the verified one, or the server refused a row.
            ServerError: it cannot be reached.
        """
        with self._asking(model, version) as client:
            whole = _batch(client, goldens)
            singly = [client.classify([golden.row])[0] for golden in goldens.rows]
            together = client.classify([golden.row for golden in whole.rows])
        faults = goldens.faults(map(_answer, singly)) or whole.faults(map(_answer, together))
        if faults:
            raise CheckFailed(f"{self.url}: {model} does not answer as it was verified: {faults[0]}.")
        return {"answers": len(singly) + len(together)}

    def client(self, model: str, version: int | None = None) -> Client:
        """Return a client of a model, or of one of its versions, that asks one thing at a time."""
        number = "" if version is None else str(version)
        return Client(self.url, model, number, access=self.access, timeout_seconds=self.timeout_seconds, in_flight=1)

    @contextmanager
    def _asking(self, model: str, version: int | None) -> Iterator[Client]:
        """Give a client; what the server refuses speaks against the model."""
        with self.client(model, version) as client:
            try:
                yield client
            except RequestError as error:
                raise CheckFailed(str(error)) from error

    @contextmanager
    def _control(self) -> Iterator[Control]:
        """Give a connection; what goes wrong with it names the server."""
        with Control(self.url, self.access) as control:
            try:
                yield control
            except RequestError as error:
                raise ServerError(f"{self.url}: {error}.") from error


def patiently(work: Callable[[], _Result], kind: type[Exception], timeout_seconds: float) -> _Result:
    """Do something again and again while it raises one kind of error, and let that error out when time is up."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            return work()
        except kind:
            if time.monotonic() > deadline:
                raise
            time.sleep(PAUSE_SECONDS)


def _batch(client: Client, goldens: Goldens) -> Goldens:
    """Return the golden rows, again and again, as the largest batch that the model takes."""
    return replace(goldens, rows=tuple(islice(cycle(goldens.rows), client.contract().max_batch_size)))


def _answer(prediction: Prediction) -> tuple[str, tuple[float, ...]]:
    return prediction.label, tuple(prediction.probabilities.values())


def _words(versions: tuple[int, ...]) -> str:
    return f"version {', '.join(map(str, versions))}" if versions else "no version"
