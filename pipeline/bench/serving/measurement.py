"""What was measured, as a record that JSON can hold."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from pipeline.bench.serving.scenarios import Scenario, Server
from pipeline.client.control import Work

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}
_CDF_POINTS = 200


@dataclass(frozen=True)
class Measurement:
    """One scenario against one target.

    Attributes:
        target: its name.
        scenario: its name, and its settings.
        samples: texts that were asked with.
        seconds: from when the first was due to the last answer.
        samples_per_second: of these.
        latency_ms: p50, p90, p95, p99, p999, max, mean; of each text from when it was due (Server) or issued (Offline:
            all at the start), of each request in SingleStream and MultiStream.
        cdf: pairs of milliseconds and the share of latencies that are not longer.
        is_valid: whether nothing in `faults`.
        faults: what makes it invalid, in words.
        errors: texts without an answer.
        unsent: texts of a `Server` that were not asked with any more, because far too many waited already.
        wrong: texts whose answer is not the expected one.
        checked: texts whose answer was compared.
        client: `processes`; `cpu_seconds` of all; `ceiling_per_second`: texts that one asks a second where a request
            costs nothing, neither to send nor to answer. In process, the model's work is in `cpu_seconds` too.
        loadgen: LoadGen's own verdict by its rules, which want more queries than a short test has.
        trials: of `highest_rate`: each `rate` that was tried, its `p99_ms`, whether it `is_valid`, and `server`.
        server: what Triton counted meanwhile, where it was asked: `mean_batch` in rows, `rows_of_batches` (how many
            batches had so many rows), and `queue_ms` and `compute_ms` of a request on average.
    """

    target: str
    scenario: dict[str, Any]
    samples: int
    seconds: float
    samples_per_second: float
    latency_ms: dict[str, float]
    cdf: list[tuple[float, float]]
    is_valid: bool
    faults: list[str]
    errors: int
    unsent: int
    wrong: int
    checked: int
    client: dict[str, float]
    loadgen: str
    trials: list[dict[str, Any]] = field(default_factory=list)
    server: dict[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        return asdict(self)

    def with_trials(self, trials: list[dict[str, Any]]) -> "Measurement":
        """Return it with the trials that led to it."""
        return replace(self, trials=trials)


def measurement(
    target: str, scenario: Scenario, outcomes: Sequence[Any], *, is_checked: bool, ceiling: float
) -> Measurement:
    """Join what the clients saw, each an `Outcome`."""
    latencies = np.sort(np.concatenate([outcome.latencies_ms for outcome in outcomes]))
    seconds = max(outcome.seconds for outcome in outcomes)
    samples, errors, unsent, wrong = (
        sum(getattr(one, name) for one in outcomes) for name in ("samples", "errors", "unsent", "wrong")
    )
    latency_ms = summary(latencies)
    faults = []
    if errors:
        reason = next(one.first_error for one in outcomes if one.errors)
        faults.append(f"{errors:,} of {samples:,} texts without an answer ({reason})")
    if wrong:
        answer = next(one.first_wrong for one in outcomes if one.wrong)
        faults.append(f"{wrong:,} of {samples:,} answers wrong ({answer})")
    if unsent:
        faults.append(f"{unsent:,} of {samples:,} texts not sent: too many waited for their answer already")
    if isinstance(scenario, Server) and not latency_ms["p99"] <= scenario.p99_ms:
        faults.append(f"p99 {latency_ms['p99']:.1f} ms, wanted at most {scenario.p99_ms:g} ms")
    return Measurement(
        target=target,
        scenario={"name": type(scenario).__name__, **asdict(scenario)},
        samples=samples,
        seconds=seconds,
        samples_per_second=samples / seconds,
        latency_ms=latency_ms,
        cdf=_cdf(latencies),
        is_valid=not faults,
        faults=faults,
        errors=errors,
        unsent=unsent,
        wrong=wrong,
        checked=samples - errors - unsent if is_checked else 0,
        client={
            "processes": len(outcomes),
            "cpu_seconds": sum(outcome.cpu_seconds for outcome in outcomes),
            "ceiling_per_second": ceiling,
        },
        loadgen="VALID" if all(outcome.verdict == "VALID" for outcome in outcomes) else "INVALID",
        server=_server(outcomes[0].work),
    )


def summary(latencies: np.ndarray) -> dict[str, float]:
    """Return percentiles, as LoadGen takes them from sorted latencies (no interpolation), the longest and the mean."""
    last = len(latencies) - 1
    found = {name: float(latencies[min(last, int(len(latencies) * share))]) for name, share in PERCENTILES.items()}
    return {**found, "max": float(latencies[-1]), "mean": float(latencies.mean())}


def _server(work: Work | None) -> dict[str, Any] | None:
    if work is None or not work.requests:
        return None
    return {
        "mean_batch": work.rows / max(1, work.batches),
        "rows_of_batches": {str(rows): count for rows, count in work.rows_of_batches.items()},
        "queue_ms": 1000 * work.queue_seconds / work.requests,
        "compute_ms": 1000 * work.compute_seconds / work.requests,
    }


def _cdf(latencies: np.ndarray) -> list[tuple[float, float]]:
    places = np.unique(np.linspace(0, len(latencies) - 1, _CDF_POINTS).round().astype(int))
    return [(float(latencies[place]), float((place + 1) / len(latencies))) for place in places]
