"""MLPerf's scenarios: when requests come, and what is judged.

Source: MLCommons, "MLPerf Inference Rules", section 3, "Scenarios".
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class SingleStream:
    """One caller that asks with one text, and again as soon as it has its answer; judged by the 90th percentile."""

    seconds: float = 10.0


@dataclass(frozen=True)
class MultiStream:
    """As `SingleStream`, with several texts in each request; judged by the 99th percentile of the requests."""

    samples: int = 8
    seconds: float = 10.0


@dataclass(frozen=True)
class Server:
    """Many callers: single texts that come by chance (a Poisson stream), whether or not earlier ones are answered.

    Attributes:
        rate: texts a second, on average.
        p99_ms: the bound on the 99th percentile of the latencies, counted from when each text was due.
        seconds: how long texts keep coming.
    """

    rate: float
    p99_ms: float = 50.0
    seconds: float = 10.0


@dataclass(frozen=True)
class Offline:
    """All texts at once, to be answered as soon as can be, in whatever batches the target likes best.

    Each text is asked as often as all others, and at least once, however short `seconds` is.
    """

    seconds: float = 10.0


Scenario = SingleStream | MultiStream | Server | Offline
