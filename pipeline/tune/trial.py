"""One trial: publish the run with a candidate's patch, serve it, check its answers, load it, see what it holds."""

import math
import os
import secrets
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.bench.serving import Measurement, OnnxTarget, Server, TritonTarget, answers, highest_rate, measure
from pipeline.client import Client
from pipeline.errors import ServerError
from pipeline.gate import PRECISIONS
from pipeline.publish import publish
from pipeline.repository.config import MODEL_FILE
from pipeline.repository.goldens import Goldens
from pipeline.run_directory import RunDirectory
from pipeline.serve import running
from pipeline.serve.running import Server as Triton
from pipeline.tune.search import Length, Result
from pipeline.tune.space import Candidate

MODEL = "tuned"
_TIMES: dict[Length, int] = {"short": 1, "long": 2, "confirm": 4}
_TOLERANCE: dict[Length, float] = {"short": 0.1, "long": 0.05, "confirm": 0.05}


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
class Trials:
    """What makes the trials of one run.

    Attributes:
        run: a verified run.
        texts: what is asked with.
        expected: a variant to the label that its verified file gives to each text.
        bounds: what a candidate must keep.
        seconds: of each rate that is tried in a short trial.
    """

    run: RunDirectory
    texts: Sequence[bytes]
    expected: Callable[[str], Sequence[str]]
    bounds: Bounds
    seconds: float

    def make(self, candidate: Candidate, length: Length) -> Result:
        """Make a trial; what cannot be served is a result, too.

        Raises:
            PipelineError: the run cannot be published, or there is no Triton.
        """
        with tempfile.TemporaryDirectory(prefix=f"pipeline-{os.getpid()}-{secrets.token_hex(4)}-") as folder:
            patch = Path(folder, "candidate.pbtxt")
            patch.write_text(candidate.patch())
            version = publish(self.run, Path(folder, "repository"), name=MODEL, config_patch=patch)
            try:
                with running(version.parents[1]) as server:
                    return self.judged(server, Goldens.load(version), candidate, length)
            except ServerError as error:
                return Result(0.0, 0.0, None, None, f"cannot be served: {str(error).rstrip('.')}")

    def judged(self, server: Triton, goldens: Goldens, candidate: Candidate, length: Length) -> Result:
        """Measure a served candidate, and say why it may not be chosen, if so."""
        if faults := _faults(server, goldens):
            return Result(0.0, 0.0, None, None, f"does not answer as it was verified: {faults[0]}")
        measured = self._measured(server, candidate, length)
        memory_mb = server.memory_bytes() / 1e6
        p99_ms = measured.latency_ms["p99"]
        rate = float(measured.scenario["rate"])
        value = rate if self.bounds.rate is None else 1000 / p99_ms
        missed = max(p99_ms / self.bounds.p99_ms, memory_mb / (self.bounds.max_memory_mb or math.inf))
        return Result(value, rate, p99_ms, memory_mb, self._reason(server, measured, memory_mb), missed)

    def _measured(self, server: Triton, candidate: Candidate, length: Length) -> Measurement:
        target, bounds = TritonTarget(server.grpc_url, MODEL), self.bounds
        expected, seconds = self.expected(candidate.variant), self.seconds * _TIMES[length]
        if bounds.rate is not None:
            return measure(target, self.texts, Server(bounds.rate, bounds.p99_ms, seconds), expected=expected)
        return highest_rate(
            target,
            self.texts,
            p99_ms=bounds.p99_ms,
            expected=expected,
            seconds=seconds,
            tolerance=_TOLERANCE[length],
        )

    def _reason(self, server: Triton, measured: Measurement, memory_mb: float) -> str:
        """Say why a candidate may not be chosen."""
        if len(server.events) > 1:
            return "the server was lost under load"
        if not measured.is_valid:
            return measured.faults[0]
        if self.bounds.max_memory_mb is not None and not memory_mb <= self.bounds.max_memory_mb:
            return f"{memory_mb:,.0f} MB of memory, allowed {self.bounds.max_memory_mb:,.0f}"
        return ""


def expected_labels(run: RunDirectory, variant: str, texts: Sequence[bytes]) -> list[str]:
    """Return the label that a variant's verified file gives to each text, in process.

    Raises:
        UsageError: LoadGen is not installed.
        PipelineError: the file does not load, or does not answer.
    """
    file = PRECISIONS[variant].file if variant in PRECISIONS else MODEL_FILE
    return answers(OnnxTarget(run.require(file)), texts)


def _faults(server: Triton, goldens: Goldens) -> list[str]:
    """Return a line for each golden row that is not answered as it was verified, all of them in flight at once."""
    with Client(server.grpc_url, MODEL) as client:
        given = client.classify([golden.row for golden in goldens.rows])
    return goldens.faults((answer.label, tuple(answer.probabilities.values())) for answer in given)
