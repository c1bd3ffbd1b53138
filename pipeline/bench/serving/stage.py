"""`pipeline bench serve`: one target through several scenarios."""

import os
import platform
from collections.abc import Sequence
from typing import Any

from pipeline.bench.serving.chosen import Chosen
from pipeline.bench.serving.client import Clients
from pipeline.bench.serving.measure import Progress, answers, bisected, measured
from pipeline.bench.serving.scenarios import MultiStream, Offline, Scenario, Server, SingleStream
from pipeline.bench.serving.targets import OnnxTarget
from pipeline.errors import UsageError

NAMES = ("single-stream", "multi-stream", "server", "offline")


def bench_serving(
    chosen: Chosen,
    texts: Sequence[bytes],
    names: Sequence[str] = NAMES,
    *,
    rate: float | None = None,
    p99_ms: float = 50.0,
    samples: int = 8,
    seconds: float = 10.0,
    processes: int = 1,
    seed: int = 0,
    progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Measure a target in each of the scenarios.

    Args:
        chosen: the target, and whose answers are expected of it.
        texts: what to ask with.
        names: of the scenarios, of `NAMES`.
        rate: texts a second of `server`; None to find the highest that is sustained.
        p99_ms: the bound of `server`.
        samples: texts in each request of `multi-stream`.
        seconds: of each scenario, and of each trial on the way to the highest rate.
        processes: clients that share the load of `server` and `offline`.
        seed: of the schedule, and of which text comes when.
        progress: told what is measured.

    Returns:
        ``measurements``, each as `Measurement` describes it, the machine, and what was asked with.

    Raises:
        UsageError: LoadGen is not installed, or what is asked for makes no sense.
        ServerError: a target cannot be reached, or leaves a request without any answer.
    """
    if "multi-stream" in names and samples > len(texts):
        raise UsageError(f"multi-stream asks with {samples} texts at once; there are {len(texts)}.")
    scenarios: dict[str, Scenario | None] = {
        "single-stream": SingleStream(seconds),
        "multi-stream": MultiStream(samples, seconds),
        "server": Server(rate, p99_ms, seconds) if rate else None,
        "offline": Offline(seconds),
    }
    progress(f"what {chosen.reference.name} answers to each of {len(texts):,} texts alone")
    expected = answers(chosen.reference, texts)

    with Clients(chosen.target, texts, expected, processes) as clients:
        found = []
        for name in names:
            progress(name)
            scenario = scenarios[name]
            found.append(
                measured(clients, scenario, seed)
                if scenario
                else bisected(clients, p99_ms=p99_ms, seconds=seconds, seed=seed, progress=progress)
            )
    return {
        "target": chosen.target.name,
        "is_remote": not isinstance(chosen.target, OnnxTarget),
        "texts": len(texts),
        "mean_bytes": sum(map(len, texts)) / len(texts),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "measurements": [one.as_json() for one in found],
    }
