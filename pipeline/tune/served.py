"""What every trial asks, and a candidate served as it is asked: published with its patch, its answers checked."""

import math
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pipeline.bench.serving import Measurement, OnnxTarget, TritonTarget, answers
from pipeline.client import Client
from pipeline.errors import PipelineError, ServerError
from pipeline.gate import PRECISIONS
from pipeline.publish import publish
from pipeline.repository.config import MODEL_FILE
from pipeline.repository.goldens import Goldens
from pipeline.run_directory import RunDirectory
from pipeline.serve import running
from pipeline.serve.running import Server as Triton
from pipeline.tune.search import Result
from pipeline.tune.space import Candidate

MODEL = "tuned"


class Unfit(PipelineError):
    """A candidate cannot be served, or does not answer as it was verified; the message is the reason."""

    @classmethod
    def of(cls, error: PipelineError) -> Self:
        """Return an error of the server as the reason that it is."""
        return error if isinstance(error, cls) else cls(f"cannot be served: {str(error).rstrip('.')}")


@dataclass(frozen=True)
class Bounds:
    """What a candidate must keep.

    Attributes:
        p99_ms: of 99 of 100 answers, from when each was due.
        max_memory_mb: of Triton and its stubs, after the load; None for no bound.
        rate: texts a second that must be answered within `p99_ms`; None to look for the highest.
    """

    p99_ms: float
    max_memory_mb: float | None = None
    rate: float | None = None


@dataclass(frozen=True)
class Task:
    """What is asked of every candidate.

    Attributes:
        run: a verified run.
        texts: what is asked with.
        expected: a variant to the label that its verified file gives to each text.
        bounds: what a candidate must keep.
        seconds: of each rate that is tried.
    """

    run: RunDirectory
    texts: Sequence[bytes]
    expected: Callable[[str], Sequence[str]]
    bounds: Bounds
    seconds: float

    def result(self, server: Triton, rate: float, p99_ms: float, decisive: Measurement) -> Result:
        """Return what a load came to.

        Args:
            server: that was under it.
            rate: texts a second.
            p99_ms: at that rate.
            decisive: the measurement that says whether the latency bound was kept.
        """
        bounds, memory_mb = self.bounds, server.memory_bytes() / 1e6
        value = rate if bounds.rate is None else 1000 / p99_ms
        missed = max(decisive.latency_ms["p99"] / bounds.p99_ms, memory_mb / (bounds.max_memory_mb or math.inf))
        return Result(value, rate, p99_ms, memory_mb, self._reason(server, memory_mb, decisive.faults), missed)

    def _reason(self, server: Triton, memory_mb: float, faults: Sequence[str]) -> str:
        """Say why a candidate that was under load may not be chosen; empty where it may."""
        if len(server.events) > 1:
            return "the server was lost under load"
        if faults:
            return faults[0]
        if self.bounds.max_memory_mb is not None and not memory_mb <= self.bounds.max_memory_mb:
            return f"{memory_mb:,.0f} MB of memory, allowed {self.bounds.max_memory_mb:,.0f}"
        return ""


@contextmanager
def served(run: RunDirectory, candidate: Candidate) -> Iterator[Triton]:
    """Serve a candidate for the length of a ``with`` block.

    Raises:
        Unfit: it does not start, does not answer as it was verified, or is given up meanwhile.
        PipelineError: the run cannot be published, or there is no Triton.
    """
    with tempfile.TemporaryDirectory(prefix=f"pipeline-{os.getpid()}-{secrets.token_hex(4)}-") as folder:
        patch = Path(folder, "candidate.pbtxt")
        patch.write_text(candidate.patch())
        version = publish(run, Path(folder, "repository"), name=MODEL, config_patch=patch)
        try:
            with running(version.parents[1]) as server:
                check(server, Goldens.load(version))
                yield server
        except ServerError as error:
            raise Unfit.of(error) from error


def check(server: Triton, goldens: Goldens) -> None:
    """Ask for the golden rows, all of them in flight at once.

    Raises:
        Unfit: one is not answered as it was verified.
    """
    with Client(server.grpc_url, MODEL) as client:
        given = client.classify([golden.row for golden in goldens.rows])
    faults = goldens.faults((answer.label, tuple(answer.probabilities.values())) for answer in given)
    if faults:
        raise Unfit(f"does not answer as it was verified: {faults[0]}")


def target_of(server: Triton) -> TritonTarget:
    """Return whom to ask."""
    return TritonTarget(server.grpc_url, MODEL)


def expected_labels(run: RunDirectory, variant: str, texts: Sequence[bytes]) -> list[str]:
    """Return the label that a variant's verified file gives to each text, in process.

    Raises:
        UsageError: LoadGen is not installed.
        PipelineError: the file does not load, or does not answer.
    """
    file = PRECISIONS[variant].file if variant in PRECISIONS else MODEL_FILE
    return answers(OnnxTarget(run.require(file)), texts)
