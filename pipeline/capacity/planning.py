"""From a demand and a cost model to instances, machines, a queue and a memory limit: the rules of docs/capacity.md."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.capacity.cost import Cost
from pipeline.capacity.queueing import Station, highest_rate, rate_at_limit, simulate
from pipeline.errors import PipelineError, UsageError

UTILISATION = 0.7  # of what a machine answers in time: a queue still drains after a burst
SPARE = 1  # machines that a rollout, a drain or a crash may take away
FEWEST_INSTANCES = 2  # a single one can leave requests waiting for 0.5 s
LEAST_MEMORY = 2 * 2**30
MOST_CORES = 1024  # of a machine; as many instances are what publish.instances takes
MEMORY_MARGIN = 2  # limit over what is expected
_MEMORY_STEP = 2**28
_NEARLY = 0.95

_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
_BYTES = {"GiB": 2.0**30, "MiB": 2.0**20}
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)([A-Za-z]*)")


@dataclass(frozen=True)
class Demand:
    """What is wanted.

    Attributes:
        rate: texts a second, all machines together.
        p99: seconds within which 99 of 100 are answered.
        tokens: of each text; None for the lengths of the run's own texts.
        cores: of a machine; None for as many as the measured one has.
        memory: bytes of a machine; None for no bound.
        overhead: seconds of processor time that the server itself spends on a request.
    """

    rate: float
    p99: float
    tokens: int | None = None
    cores: int | None = None
    memory: float | None = None
    overhead: float = 0.0


@dataclass(frozen=True)
class Plan:
    """What to start, and what it will do.

    Attributes:
        machines: to start, the spare one included.
        instances: of the model on each machine.
        threads: of each instance.
        cores: of each machine.
        tokens: of a text, the median.
        rate_within_p99: texts a second that one machine answers in time.
        rate_at_limit: texts a second of one machine whose batches are always full.
        rate_planned: texts a second on each machine while the spare one is away.
        p50: seconds, at that rate.
        p99: seconds, at that rate.
        batch: rows of a mean batch, at that rate.
        max_queue_size: requests that may wait on each machine.
        instance_bytes: expected, after the largest call.
        memory_limit: bytes, of each machine.
        limited_by: what keeps a machine from answering more: ``p99``, ``processor`` or ``memory``.
        shares: of the time of a mean batch, by `time_terms`.
        missed: by which factor the cost model missed calls of so many threads that it never saw, in the median.
    """

    machines: int
    instances: int
    threads: int
    cores: int
    tokens: int
    rate_within_p99: float
    rate_at_limit: float
    rate_planned: float
    p50: float
    p99: float
    batch: float
    max_queue_size: int
    instance_bytes: float
    memory_limit: float
    limited_by: str
    shares: dict[str, float]
    missed: float


def parse_demand(text: str) -> Demand:
    """Read ``rate=500,p99=50ms,tokens=200,cores=8,memory=16GiB,overhead=300us``; only rate and p99 must be there.

    Raises:
        UsageError: a key is missing, unknown, twice there, or its value is none.
    """
    values: dict[str, Any] = {}
    for part in text.split(","):
        key, equals, value = part.strip().partition("=")
        if not equals or key not in _READERS:
            raise UsageError(f"--plan: {part.strip()!r}: wanted KEY=VALUE, the key one of {', '.join(_READERS)}.")
        if key in values:
            raise UsageError(f"--plan: {key} is given twice.")
        values[key] = _READERS[key](key, value)
    if missing := [key for key in ("rate", "p99") if key not in values]:
        raise UsageError(f"--plan: no {' and no '.join(missing)}: wanted at least rate=500,p99=50ms.")
    return Demand(**values)


def make_plan(cost: Cost, demand: Demand) -> Plan:
    """Return the plan with the fewest machines.

    Raises:
        PipelineError: no number of machines answers within this p99, or a machine has too little memory.
        UsageError: the model cuts texts at fewer tokens.
    """
    if cost.max_tokens and demand.tokens and demand.tokens > cost.max_tokens:
        raise UsageError(f"--plan: tokens={demand.tokens}: {cost.name} cuts a text at {cost.max_tokens} tokens.")
    cores = demand.cores or cost.cores
    lengths = (demand.tokens,) if demand.tokens else cost.lengths
    instance_bytes = cost.instance_bytes(cost.max_batch_size, lengths[-1])
    stations = _stations(cost, demand, cores, _fitting(demand, instance_bytes))
    rates = {threads: highest_rate(station, demand.p99, lengths) for threads, station in stations.items()}
    threads = max(rates, key=lambda threads: rates[threads])
    station, within = stations[threads], rates[threads]
    if not within:
        raise _impossible(cost, demand, stations.values(), lengths)
    loaded = math.ceil(demand.rate / (UTILISATION * within))
    planned = simulate(station, demand.rate / loaded, lengths)
    limit = rate_at_limit(station, lengths)
    tokens = int(lengths[len(lengths) // 2])
    waits = demand.p99 - station.seconds(1, tokens)
    return Plan(
        machines=loaded + SPARE,
        instances=station.instances,
        threads=threads,
        cores=cores,
        tokens=tokens,
        rate_within_p99=within,
        rate_at_limit=limit,
        rate_planned=demand.rate / loaded,
        p50=planned.p50,
        p99=planned.p99,
        batch=planned.batch,
        max_queue_size=max(1, math.ceil(within * waits)),
        instance_bytes=instance_bytes,
        memory_limit=min(_memory_limit(station.instances * instance_bytes), demand.memory or math.inf),
        limited_by=_limit(within / limit, station.instances, _instances(cores, threads)),
        shares=cost.shares(threads, max(1, round(planned.batch)), tokens),
        missed=cost.missed[threads],
    )


def _instances(cores: int, threads: int) -> int:
    """Return an instance for each so many cores, never fewer than two; 0 if more threads than cores would be needed."""
    if threads == 1:
        return max(FEWEST_INSTANCES, cores)
    return cores // threads if cores // threads >= FEWEST_INSTANCES else 0


def _stations(cost: Cost, demand: Demand, cores: int, fitting: int) -> dict[int, Station]:
    """Return, by the threads of an instance, what can be started on a machine."""
    counts = {threads: min(_instances(cores, threads), fitting) for threads in cost.seconds}
    return {threads: _station(cost, demand, cores, threads, count) for threads, count in counts.items() if count}


def _station(cost: Cost, demand: Demand, cores: int, threads: int, instances: int) -> Station:
    """Return a machine's instances, each slowed down by the others; the terms of a call folded for speed."""
    slower = (cost.crowding if cores > 1 else 1.0) * max(1.0, instances * threads / cores)
    corners = [[cost.call_seconds(threads, B, T) for T in (0, 1)] for B in (0, 1)]
    call, step, row = corners[0][0], corners[0][1] - corners[0][0], corners[1][0] - corners[0][0]
    row_step = corners[1][1] - call - step - row

    def seconds(rows: int, tokens: int) -> float:
        return slower * (call + step * tokens + (row + demand.overhead + row_step * tokens) * rows)

    return Station(instances, cost.max_batch_size, seconds)


def _fitting(demand: Demand, instance_bytes: float) -> int:
    """Return how many instances a machine's memory holds.

    Raises:
        PipelineError: fewer than two.
    """
    if demand.memory is None:
        return MOST_CORES
    fitting = int(demand.memory / (MEMORY_MARGIN * instance_bytes))
    if fitting < FEWEST_INSTANCES or demand.memory < LEAST_MEMORY:
        wanted = _memory_limit(FEWEST_INSTANCES * instance_bytes) / 2**30
        raise PipelineError(
            f"--plan: memory={demand.memory / 2**30:.2f}GiB: too little for {FEWEST_INSTANCES} instances; wanted "
            f"{wanted:.2f}GiB, which is {MEMORY_MARGIN} × what they are expected to take, and at least 2GiB."
        )
    return fitting


def _memory_limit(expected: float) -> float:
    return max(LEAST_MEMORY, math.ceil(MEMORY_MARGIN * expected / _MEMORY_STEP) * _MEMORY_STEP)


def _limit(share: float, instances: int, wanted: int) -> str:
    if share < _NEARLY:
        return "p99"
    return "memory" if instances < wanted else "processor"


def _impossible(cost: Cost, demand: Demand, stations: Iterable[Station], lengths: Sequence[int]) -> PipelineError:
    """Return the error that says what an idle machine needs."""
    idle = min(simulate(station, 1e-3 * rate_at_limit(station, lengths), lengths).p99 for station in stations)
    return PipelineError(
        f"--plan: p99={demand.p99 * 1e3:g}ms: no number of machines will do: where nothing waits, {cost.name} already "
        f"takes {idle * 1e3:.3g} ms. Wanted a longer p99, shorter texts or a smaller model."
    )


def _measure(units: dict[str, float]) -> Callable[[str, str], float]:
    def read(key: str, value: str) -> float:
        match = _NUMBER.fullmatch(value)
        if not match or match[2] not in units or not 0 < float(match[1]) < math.inf:
            wanted = " or ".join(f"{key}=50{unit}" for unit in units)
            raise UsageError(f"--plan: {key}={value}: wanted a number above 0, such as {wanted}.")
        return float(match[1]) * units[match[2]]

    return read


def _whole(most: int) -> Callable[[str, str], int]:
    def read(key: str, value: str) -> int:
        if not re.fullmatch("[0-9]{1,9}", value) or not 0 < int(value) <= most:
            raise UsageError(f"--plan: {key}={value}: wanted a whole number from 1 to {most:,}.")
        return int(value)

    return read


_READERS: dict[str, Callable[[str, str], float]] = {
    "rate": _measure({"": 1.0}),
    "p99": _measure(_SECONDS),
    "tokens": _whole(1_000_000),
    "cores": _whole(MOST_CORES),
    "memory": _measure(_BYTES),
    "overhead": _measure(_SECONDS),
}
