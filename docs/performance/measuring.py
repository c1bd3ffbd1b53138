"""Every contestant in turn, in every scenario, as often as asked for; a ratio is of figures of one repeat."""

import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from batches import speeds
from cases import Case
from peers import Contestant, Setup, contestants
from records import Records, Result

from pipeline.bench.serving import Measurement, MultiStream, Offline, Server, SingleStream, answers
from pipeline.bench.serving.client import Clients
from pipeline.bench.serving.measure import bisected, measured
from pipeline.errors import PipelineError, ServerError

P99_MS = 50.0
BATCHES = "engines in process"


@dataclass(frozen=True)
class Plan:
    """How long it takes.

    Attributes:
        seconds: of a scenario, and of each rate that is tried.
        repeats: of everything.
        tolerance: of the highest rate, as a share of it.
    """

    seconds: float
    repeats: int
    tolerance: float = 0.1


def measure_case(name: str, work: Path, plan: Plan, records: Records, only: tuple[str, ...]) -> None:
    """Measure what is not yet in the records; each repeat begins with another contestant."""
    case = Case.open(name, work)
    everybody = [one for one in contestants(case) if one.name.startswith(only)]
    for repeat in range(plan.repeats):
        first = repeat % max(1, len(everybody))  # nobody, where only the engines in process are asked for
        for contestant in everybody[first:] + everybody[:first]:
            Turn(case, contestant, repeat, plan, records).take()
        if BATCHES.startswith(only):
            _measure_batches(case, repeat, plan, records)


class Turn:
    """One contestant, once."""

    def __init__(self, case: Case, contestant: Contestant, repeat: int, plan: Plan, records: Records) -> None:
        self.case, self.contestant, self.repeat, self.plan, self.records = case, contestant, repeat, plan, records
        self.key = {"set": case.name, "weights": case.weights, "contestant": contestant.name}
        self.setup: Setup | None = None

    def take(self) -> None:
        """Start the contestant, ask it in each scenario that is not yet in the records, and stop it."""
        known = {one["scenario"] for one in self.records.find(**self.key, repeat=self.repeat)}
        scenarios = [one for one in self._scenarios() if one not in known]
        if not scenarios or "Failed" in known:
            return
        try:
            self.setup = self._fastest_setup()
            with (
                self.contestant.start(self.case, self.setup) as target,
                Clients(target, self.case.texts, self._expected()) as clients,
            ):
                for scenario in scenarios:
                    self._record(scenario, getattr(self, f"_{scenario}")(clients))
        except (PipelineError, OSError) as error:
            self._record("Failed", {"value": None, "reason": str(error)})

    def _scenarios(self) -> tuple[str, ...]:
        is_compared = self.contestant.is_same_model and self.repeat == 0
        return ("Answers", *self.contestant.scenarios) if is_compared else self.contestant.scenarios

    def _fastest_setup(self) -> Setup | None:
        """Try each set-up for a second with many requests in flight, once for all repeats; return the fastest."""
        for setup in self.contestant.setups:
            if not self.records.find(**self.key, scenario="Setup", setup=asdict(setup)):
                self.setup = setup
                try:
                    with self.contestant.start(self.case, setup) as target, Clients(target, self.case.texts) as clients:
                        self._record("Setup", self._Ceiling(clients))
                except (PipelineError, OSError) as error:  # the other may do
                    self._record("Setup", {"value": 0.0, "reason": str(error)})
        tried = self.records.find(**self.key, scenario="Setup")
        return Setup(**max(tried, key=lambda one: one["value"])["setup"]) if tried else None

    def _Answers(self, clients: Clients) -> Result:  # noqa: N802 - named like the scenarios
        given = answers(clients.target, self.case.sample)
        pairs = list(zip(given, self.case.sample_expected, strict=True))
        return {"value": sum(label == wanted for label, wanted in pairs) / len(pairs), "texts": len(pairs)}

    def _SingleStream(self, clients: Clients) -> Result:  # noqa: N802
        found = measured(clients, SingleStream(self.plan.seconds), self.repeat)
        return {"value": found.latency_ms["p90"], **_kept(found)}

    def _MultiStream(self, clients: Clients) -> Result:  # noqa: N802
        found = measured(clients, MultiStream(seconds=self.plan.seconds), self.repeat)
        return {"value": found.latency_ms["p99"], **_kept(found)}

    def _Offline(self, clients: Clients) -> Result:  # noqa: N802
        found = measured(clients, Offline(self.plan.seconds), self.repeat)
        return {"value": found.samples_per_second, **_kept(found)}

    def _Server(self, clients: Clients) -> Result:  # noqa: N802
        alone = self.records.find(**self.key, repeat=self.repeat, scenario="SingleStream")
        if alone and alone[0]["value"] > P99_MS:
            return {"value": 0.0, "faults": [f"p90 {alone[0]['value']:.1f} ms with one caller"]}
        before = [one["value"] for one in self.records.find(**self.key, scenario="Server") if one["value"]]
        found = bisected(
            clients,
            p99_ms=P99_MS,
            seconds=self.plan.seconds,
            tolerance=self.plan.tolerance,
            start=before[-1] if before else None,
            seed=self.repeat,
        )
        return {"value": found.scenario["rate"] if found.is_valid else 0.0, **_kept(found)}

    def _Ceiling(self, clients: Clients) -> Result:  # noqa: N802
        clients.texts_per_second(Server(1.0))  # first answers are slow, and some servers learn from them
        return {"value": clients.texts_per_second(Server(1.0))}

    def _expected(self) -> list[str] | None:
        return self.case.expected if self.contestant.is_same_model else None

    def _record(self, scenario: str, found: Result) -> None:
        setup = asdict(self.setup) if self.setup else None
        record = {**self.key, "scenario": scenario, "repeat": self.repeat, "setup": setup, **found}
        self.records.append({**record, "case": self.case.summary}, self.contestant.packages)
        said = found.get("reason") or found.get("faults") or ""
        print(self.case.name, self.repeat, self.contestant.name, scenario, found["value"], said, file=sys.stderr)


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process of its own, whose threads end with it.

    Raises:
        ServerError: it raised something.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except Exception as error:
            raise ServerError(f"{type(error).__name__}: {error}") from error


def _measure_batches(case: Case, repeat: int, plan: Plan, records: Records) -> None:
    key = {"set": case.name, "weights": case.weights, "repeat": repeat, "contestant": BATCHES}
    if records.find(**key):
        return
    try:
        results = [
            {"scenario": f"batches of {size}", "value": found} for size, found in apart(speeds, case, plan.seconds)
        ]
    except PipelineError as error:
        results = [{"scenario": "Failed", "value": None, "reason": str(error)}]
    for result in results:
        records.append({**key, **result, "case": case.summary}, ("torch", "onnxruntime-gpu", "openvino"))
        print(case.name, repeat, BATCHES, *result.values(), file=sys.stderr)


def _kept(found: Measurement) -> Result:
    kept = found.as_json()
    del kept["cdf"], kept["target"]
    kept["trials"] = [{"rate": one["rate"], "p99_ms": one["p99_ms"]} for one in kept["trials"]]
    kept["settings"] = kept.pop("scenario")
    return kept
