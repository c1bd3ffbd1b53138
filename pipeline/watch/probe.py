"""The golden rows of the version in service, asked as any caller would ask: over the network, without a version."""

import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from threading import Event as Flag

from pipeline.client import Access, Client
from pipeline.client.control import Control
from pipeline.errors import PipelineError, RequestError, UsageError
from pipeline.repository.goldens import Goldens
from pipeline.watch.certificate import expiry


@dataclass(frozen=True)
class Round:
    """What one round of questions showed.

    Attributes:
        seconds: how long it took.
        version: the version that the server answered from; None when that is not known.
        wrong: a line for each answer that is not the verified one.
        failure: why there were no answers; empty when there were.
        certificate_expires: when the server's certificate ends, in seconds since 1970; None where none is shown.
    """

    seconds: float
    version: int | None = None
    wrong: tuple[str, ...] = ()
    failure: str = ""
    certificate_expires: float | None = None

    @property
    def is_success(self) -> bool:
        """Whether every answer came, and was the verified one."""
        return not self.failure and not self.wrong


def watch(
    url: str,
    model: str,
    repository: Path,
    stop: Flag,
    *,
    access: Access | None = None,
    every_seconds: float = 5.0,
    timeout_seconds: float = 3.0,
) -> Generator[Round, None, None]:
    """Yield a round of questions every so often, until `stop` is set.

    Args:
        url: host and gRPC port of the server, or of what stands in front of it.
        model: whom to ask.
        repository: where its versions lie with their golden rows; it is only read.
        stop: set it to end.
        access: how the server is reached.
        every_seconds: from the beginning of one round to that of the next.
        timeout_seconds: the deadline of each request.

    Raises:
        UsageError: the repository has no such model, or the server is to be reached in a way that cannot be.
    """
    if not (repository / model).is_dir():
        raise UsageError(f"{repository}: no model named {model}. Name the repository that the server serves.")
    access = access or Access()
    Client(url, model, access=access).close()  # what is wrong with these is said now, and not in every round
    while not stop.is_set():
        begun = time.monotonic()
        yield _round(url, model, repository, access, timeout_seconds)
        stop.wait(every_seconds - (time.monotonic() - begun))


def _round(url: str, model: str, repository: Path, access: Access, timeout_seconds: float) -> Round:
    expires = expiry(url, access, timeout_seconds)
    begun = time.monotonic()
    try:
        version, wrong = _ask(url, model, repository, access, timeout_seconds)
        return Round(time.monotonic() - begun, version, wrong, certificate_expires=expires)
    except PipelineError as error:
        return Round(time.monotonic() - begun, failure=str(error), certificate_expires=expires)


def _ask(url: str, model: str, repository: Path, access: Access, timeout_seconds: float) -> tuple[int, tuple[str, ...]]:
    """Return the version in service, and what is wrong with its answers.

    The connection is a new one, as a new caller's is: an old one outlives the certificate and the listener.
    """
    with (
        Control(url, access) as control,
        Client(url, model, access=access, timeout_seconds=timeout_seconds) as client,
    ):
        after = _serving(control, model, timeout_seconds)
        for _ in range(3):  # again, if the version changed while it was asked
            before = after
            goldens = Goldens.load(repository / model / str(before))
            answers = client.classify([golden.row for golden in goldens.rows])
            after = _serving(control, model, timeout_seconds)
            if after == before:
                break
        wrong = goldens.faults((answer.label, tuple(answer.probabilities.values())) for answer in answers)
        return before, tuple(wrong)


def _serving(control: Control, model: str, timeout_seconds: float) -> int:
    """Return the version that answers a request that names none: the highest that is ready."""
    versions = control.versions(timeout_seconds).get(model)
    if not versions:
        raise RequestError(f"{model}: the server has no version of it in service. Load it, or see the server's log.")
    return versions[-1]
