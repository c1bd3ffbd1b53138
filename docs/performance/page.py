"""docs/performance.md out of the results: every figure in it is computed here."""

import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from records import Records, Result

FASTAPI, BATCHES = "FastAPI + PyTorch", "engines in process"
OTHERS = ("LitServe", "BentoML")
SCENARIOS = {
    "SingleStream": "one caller: p90, ms",
    "MultiStream": "eight texts a request: p99, ms",
    "Server": "random arrivals: texts/s at p99 ≤ 50 ms",
    "Offline": "all at once: texts/s",
}

Values = dict[int, float]  # by repeat


@dataclass(frozen=True)
class Claim:
    """What is to be shown.

    Attributes:
        text: in words.
        measured: by repeat.
        wanted: at least, or at most.
        is_least: which of the two.
        unit: of the figures.
    """

    text: str
    measured: Values
    wanted: float
    is_least: bool = True
    unit: str = "×"

    def row(self, name: str) -> str:
        """Return a line of the table."""
        sign = "≥" if self.is_least else "≤"
        cells = (name, self.text, f"{sign} {self.wanted:g} {self.unit}", _spread(self.measured), self._end())
        return f"| {' | '.join(cells)} |"

    def _end(self) -> str:
        if not self.measured:
            return "not measured"
        median = statistics.median(self.measured.values())
        missed = self.wanted - median if self.is_least else median - self.wanted
        return "met" if missed <= 0 else f"**missed by {_figure(missed)} {self.unit}**"


class Comparison:
    """The results of one set."""

    def __init__(self, name: str, results: list[Result]) -> None:
        self.name = name
        newest = results[-1]["weights"]
        self.results = [one for one in results if one["weights"] == newest]
        self.case = results[-1]["case"]
        self.variant: str = self.case["variant"]

    def values(self, contestant: str, scenario: str) -> Values:
        """Return the values that count: those of valid measurements, and 0 for a server that sustains no rate."""
        return {
            one["repeat"]: one["value"]
            for one in self.results
            if (one["contestant"], one["scenario"]) == (contestant, scenario)
            and (scenario == "Server" or one.get("is_valid", True))
        }

    def speeds(self, engine: str, size: int) -> Values:
        """Return an engine's texts a second in batches of one size."""
        return {repeat: value[engine] for repeat, value in self.values(BATCHES, f"batches of {size}").items()}  # type: ignore[index]

    def contestants(self) -> list[str]:
        """Return who was asked in scenarios, ours first, in the order of the first results."""
        names = dict.fromkeys(one["contestant"] for one in self.results if one["scenario"] in SCENARIOS)
        return sorted(names, key=lambda name: (not name.startswith("pipeline"), "process" not in name))

    def engines(self) -> list[str]:
        """Return the names of the engines in process."""
        found = [one["value"] for one in self.results if one["contestant"] == BATCHES and one["value"]]
        return list(found[0]) if found else []

    def claims(self) -> list[Claim]:
        """Return what was to be shown."""
        variants = list(dict.fromkeys([self.variant, "fp32"]))
        ours = _ours(self.variant)
        best = max(OTHERS, key=lambda other: statistics.median(self.values(other, "Server").values() or [0]))
        torch = [one for one in self.engines() if one.startswith("PyTorch")]
        chosen = f"pipeline score, {self.variant}"

        def fastest(size: int) -> Values:
            return _joined(lambda *rates: max(rates), *(self.speeds(one, size) for one in torch))

        return [
            *(
                Claim(f"all at once: {_ours(one)} beside ONNX Runtime in process", self._ratio(one, "Offline"), 0.75)
                for one in variants
            ),
            Claim(f"rate: {ours} beside {FASTAPI}", self.beside(ours, FASTAPI, "Server"), 3),
            Claim(f"rate: {ours} beside the best other, {best}", self.beside(ours, best, "Server"), 1.5),
            *(
                Claim(
                    f"one caller, p90: {name(one)} less ONNX Runtime in process",
                    _joined(
                        lambda a, b: a - b,
                        self.values(name(one), "SingleStream"),
                        self.values(_in_process(one), "SingleStream"),
                    ),
                    1.0,
                    is_least=False,
                    unit="ms",
                )
                for one in variants
                for name in (_ours, _over_http)
            ),
            *(
                Claim(
                    f"in process, batches of {size}: {self.variant} beside PyTorch",
                    _joined(_quotient, self.speeds(chosen, size), fastest(size)),
                    wanted,
                )
                for size, wanted in ((1, 2), (32, 2.5))
                if torch
            ),
            *(
                Claim(
                    f"in process, batches of {size}: {self.variant} beside OpenVINO's default",
                    _joined(_quotient, self.speeds(chosen, size), self.speeds("OpenVINO", size)),
                    1,
                )
                for size in (1, 32)
                if torch
            ),
        ]

    def beside(self, one: str, other: str, scenario: str) -> Values:
        """Return quotients of two contestants, repeat by repeat; of latencies the other way round."""
        values = self.values(one, scenario), self.values(other, scenario)
        return _joined(_quotient, *(values if scenario in {"Server", "Offline"} else values[::-1]))

    def _ratio(self, variant: str, scenario: str) -> Values:
        return self.beside(_ours(variant), _in_process(variant), scenario)


def page(records: Records, notes: str) -> str:
    """Return the page."""
    results = list(records)
    if not results:
        return "# Speed beside others\n\nNot measured yet: `python docs/performance -h` says how.\n"
    names = dict.fromkeys(one["set"] for one in results)
    sets = [Comparison(name, [one for one in results if one["set"] == name]) for name in names]
    parts = [
        [_HEAD],
        ["## What was to be shown", "", *_claims(sets)],
        *([f"## {one.name}: {one.case['words']:.0f} words a text", "", *_set(one)] for one in sets),
        ["## The client", "", *_client(sets)],
        ["## Versions", "", *_versions(results)],
        [notes] if notes else [],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part).rstrip() + "\n"


_HEAD = """# Speed beside others

Written by `python docs/performance table` from `docs/performance.jsonl`; the scripts in `docs/performance` say how
a figure is made. All of one set answer from the same weights and are asked with the same texts by the load generator of
`pipeline bench serve` (MLCommons LoadGen), on the machine that serves them. Each figure is the median over the repeats,
with the lowest and highest; a ratio is of figures of one repeat."""


def _claims(sets: Iterable[Comparison]) -> list[str]:
    rows = [claim.row(one.name) for one in sets for claim in one.claims()]
    return ["| set | what | wanted | measured | |", "|---|---|---|---|---|", *rows]


def _set(one: Comparison) -> list[str]:
    ours = _ours(one.variant)
    lines = [f"| | {' | '.join(SCENARIOS.values())} | set-up | same labels |", "|---" * 7 + "|"]
    for name in one.contestants():
        cells = [_spread(one.values(name, scenario), "none") for scenario in SCENARIOS]
        lines.append(f"| {name} | {' | '.join(cells)} | {_setup(one, name)} | {_agreement(one, name)} |")
    lines += ["", f"How many times as fast {ours} is:", ""]
    lines += [f"| beside | {' | '.join(SCENARIOS)} |", "|---" * 5 + "|"]
    for name in one.contestants():
        if name != ours:
            cells = [_spread(one.beside(ours, name, scenario)) for scenario in SCENARIOS]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    right = ", ".join(f"{name} {share:.1%}" for name, share in one.case["accuracies"].items())
    lines += ["", f"Right of the test texts that were drawn: {right}.", *_engines(one), *_failures(one)]
    return lines


def _engines(one: Comparison) -> list[str]:
    rows = [
        f"| {engine} | {_spread(one.speeds(engine, 1))} | {_spread(one.speeds(engine, 32))} |"
        for engine in one.engines()
    ]
    head = ["", "In process, batches of one size, texts/s:", "", "| | 1 | 32 |", "|---|---|---|"]
    return [*head, *rows] if rows else []


def _failures(one: Comparison) -> list[str]:
    failed = dict.fromkeys(
        f"- {each['contestant']}, {each['scenario']}, repeat {each['repeat'] + 1}: {reason}"
        for each in one.results
        for reason in ([each["reason"]] if "reason" in each else each.get("faults", []))
    )
    return ["", "What failed, or was not counted:", "", *failed] if failed else []


def _client(sets: Iterable[Comparison]) -> list[str]:
    lines = []
    for one in sets:
        ceiling = one.values("HTTP client", "Ceiling")
        shares = [
            (each["client"]["cpu_seconds"] / each["seconds"], each["contestant"])
            for each in one.results
            if each["scenario"] == "Server" and each.get("client") and "in process" not in each["contestant"]
        ]
        lines.append(
            f"- {one.name}: of a server that answers at once, the HTTP client gets {_spread(ceiling)} answers/s."
        )
        if shares:
            share, busiest = max(shares)
            lines[-1] += f" At the highest rates the client took at most {share:.0%} of a core (asking {busiest})."
    return lines


def _versions(results: Iterable[Result]) -> list[str]:
    versions = {f"{name} {number}" for one in results for name, number in one["versions"].items()}
    machines = sorted({one["machine"] for one in results})
    dates = sorted({one["date"] for one in results})
    when = " to ".join(dict.fromkeys([dates[0], dates[-1]]))
    return [", ".join(sorted(versions)) + ".", "", f"Machine: {'; '.join(machines)}. Measured {when}."]


def _setup(one: Comparison, name: str) -> str:
    setups = [each["setup"] for each in one.results if each["contestant"] == name and each["scenario"] in SCENARIOS]
    if not setups or not setups[0]:
        return ""
    return f"workers: {setups[0]['workers']}, threads each: {setups[0]['threads']}"


def _agreement(one: Comparison, name: str) -> str:
    found = [each for each in one.results if (each["contestant"], each["scenario"]) == (name, "Answers")]
    return f"{found[0]['value']:.1%} of {found[0]['texts']}" if found else "another model"


def _ours(variant: str) -> str:
    return f"pipeline serve, {variant}"


def _over_http(variant: str) -> str:
    return f"pipeline serve over HTTP, {variant}"


def _in_process(variant: str) -> str:
    return f"ONNX Runtime in process, {variant}"


def _joined(function: Callable[..., float], *values: Values) -> Values:
    shared = set.intersection(*map(set, values)) if values else set()
    return {repeat: function(*(one[repeat] for one in values)) for repeat in sorted(shared)}


def _quotient(one: float, other: float) -> float:
    return one / other if other else math.inf if one else math.nan


def _spread(values: Values, zero: str = "0") -> str:
    if not values:
        return "–"
    lowest, median, highest = min(values.values()), statistics.median(values.values()), max(values.values())
    if highest == 0:
        return zero
    return _figure(median) + (f" ({_figure(lowest)}–{_figure(highest)})" if len(values) > 1 else "")


def _figure(value: float) -> str:
    """Write three digits."""
    if not math.isfinite(value):
        return "∞" if value > 0 else "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
