"""The trials: one candidate for a short or a long time, or several side by side."""

from collections.abc import Sequence

from pipeline.bench.serving import Measurement, Server, highest_rate, measure
from pipeline.serve.running import Server as Triton
from pipeline.tune.comparison import compared
from pipeline.tune.search import Kind, Result
from pipeline.tune.served import Task, Unfit, served, target_of
from pipeline.tune.space import Candidate

_TIMES: dict[Kind, int] = {"short": 1, "long": 2}
_TOLERANCE: dict[Kind, float] = {"short": 0.1, "long": 0.05}


def make(task: Task, kind: Kind, candidates: Sequence[Candidate]) -> list[Result]:
    """Make a trial; what cannot be served is a result, too.

    Raises:
        PipelineError: the run cannot be published, or there is no Triton.
    """
    if kind not in _TIMES:
        return compared(task, candidates)
    (candidate,) = candidates
    try:
        with served(task.run, candidate) as server:
            return [loaded(task, server, candidate, kind)]
    except Unfit as unfit:
        return [Result.unfit(str(unfit))]


def loaded(task: Task, server: Triton, candidate: Candidate, kind: Kind) -> Result:
    """Measure a served candidate, and say why it may not be chosen, if so."""
    measured = _measured(task, server, candidate, kind)
    return task.result(server, float(measured.scenario["rate"]), measured.latency_ms["p99"], measured)


def _measured(task: Task, server: Triton, candidate: Candidate, kind: Kind) -> Measurement:
    target, texts, bounds = target_of(server), task.texts, task.bounds
    expected, seconds = task.expected(candidate.variant), task.seconds * _TIMES[kind]
    if bounds.rate is not None:
        return measure(target, texts, Server(bounds.rate, bounds.p99_ms, seconds), expected=expected)
    return highest_rate(
        target, texts, p99_ms=bounds.p99_ms, expected=expected, seconds=seconds, tolerance=_TOLERANCE[kind]
    )
