"""One test of MLCommons LoadGen over a connection: it decides when each request is due, and it keeps the time.

Latencies are LoadGen's own, to the nanosecond, read from the trace that it writes: in `Server` they are counted from
when a text was due by the schedule, whether or not it could be sent then, so that no text waits unseen behind another
(coordinated omission); in the other scenarios from when it was issued. What is added here is what LoadGen leaves to the
system under test: to send requests that were encoded beforehand, and to compare each answer of the very run that is
timed.
"""

import math
import random
import re
import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Semaphore
from typing import Any

import mlperf_loadgen as lg
import numpy as np

from pipeline.bench.serving.scenarios import MultiStream, Offline, Scenario, Server, SingleStream
from pipeline.bench.serving.targets import Connection, Labels
from pipeline.client.control import Work
from pipeline.errors import ServerError

WARM_UP_SECONDS = 0.5
_WARM_UP_IN_FLIGHT = 32  # of Server
_SAMPLE = re.compile(rb'"name":"Sample".*"ph":"b".*"ts":([\d.]+),.*"query_seq":(\d+),.*"complete_ns":(\d+)')
_VERDICT = re.compile(r"Result is : (\w+)")
_MOST_BEHIND = 20  # latency bounds: beyond it a Server test is lost, and what is still to come only makes it longer
_LEAST_BEHIND_SECONDS = 1.0
_SETTLING_SECONDS, _MOST_UNSETTLED_SECONDS = 0.1, 2.0

Group = tuple[int, ...]  # the texts of one request, by number


@dataclass(frozen=True)
class Outcome:
    """What one client saw.

    Attributes:
        latencies_ms: of each text, or of each request of `MultiStream`.
        seconds: from when the first was due to the last answer.
        samples: texts that were asked with.
        cpu_seconds: of this process meanwhile, by all its threads.
        errors: texts without an answer.
        unsent: texts that were not asked with, because far too many waited already.
        wrong: texts whose answer is not the expected one.
        first_error: the reason of the first.
        first_wrong: the first such answer.
        verdict: LoadGen's own by its rules, which want more queries than a short test has: VALID or INVALID.
        work: what the server did meanwhile, where it can be asked.
    """

    latencies_ms: np.ndarray
    seconds: float
    samples: int
    cpu_seconds: float
    errors: int
    unsent: int
    wrong: int
    first_error: str
    first_wrong: str
    verdict: str
    work: Work | None = None


class LoadTest:
    """A connection, the texts to ask with, and what is to be answered.

    Args:
        connection: to the target.
        texts: LoadGen's sample library.
        expected: the label of each text; None to compare nothing.
        warm_up_seconds: how long to ask before the first test of each scenario.
    """

    def __init__(
        self,
        connection: Connection,
        texts: Sequence[bytes],
        expected: Sequence[str] | None,
        warm_up_seconds: float = WARM_UP_SECONDS,
    ) -> None:
        self.connection, self.texts, self.expected = connection, texts, expected
        self._warm_up_seconds = warm_up_seconds
        self._requests: dict[Group, Any] = {}
        self._speeds: dict[type, float] = {}

    def run(self, scenario: Scenario, seed: int = 0) -> Outcome:
        """Warm up if it is the first such test, then let LoadGen ask.

        Args:
            scenario: when requests come.
            seed: of the schedule, and of which text comes when.
        """
        texts_per_second = self._speeds.get(type(scenario)) or self.warm_up(scenario)
        issuer = _Issuer(self, scenario)
        settings = _settings(scenario, texts_per_second, len(self.texts), seed)
        before = self._settled_work()
        with tempfile.TemporaryDirectory(prefix="pipeline-bench-") as folder:
            _start(issuer, settings, len(self.texts), folder)
            outcome = _outcome(Path(folder), issuer, isinstance(scenario, MultiStream))
        after = self._settled_work()
        return replace(outcome, work=after - before) if before and after else outcome

    def _settled_work(self) -> Work | None:
        """Ask until two answers are the same: Triton counts a batch a moment after it answers."""
        work = self.connection.work()
        end = time.monotonic() + _MOST_UNSETTLED_SECONDS
        while work and time.monotonic() < end:
            time.sleep(_SETTLING_SECONDS)
            work, earlier = self.connection.work(), work
            if work == earlier:
                break
        return work

    def answers(self) -> Labels:
        """Return the label of each text, asked for alone, one after the other; raises what the target raises."""
        return [self.connection.answer(self.request((index,)))[0] for index in range(len(self.texts))]

    def warm_up(self, scenario: Scenario) -> float:
        """Ask for a while, with as much in flight as the scenario may have; return texts answered a second.

        Where one request follows the other it is the speed of the fastest, so that LoadGen lays in enough of them.

        Raises:
            ServerError: not one text is answered.
        """
        groups = self.groups(range(len(self.texts)), scenario)
        random.Random(0).shuffle(groups)  # noqa: S311  so that short and long texts are mixed
        is_serial = isinstance(scenario, SingleStream | MultiStream)
        in_flight = _WARM_UP_IN_FLIGHT if isinstance(scenario, Server) else self.connection.in_flight
        slots = Semaphore(1 if is_serial else in_flight)
        answers: deque[Labels | Exception] = deque()
        times: list[float] = []

        def done(answer: Labels | Exception) -> None:
            answers.append(answer)
            slots.release()

        start = time.perf_counter()
        while (begun := time.perf_counter()) - start < self._warm_up_seconds or len(times) < 2:
            slots.acquire()
            ask(self.connection, self.request(groups[len(times) % len(groups)]), done, is_serial=is_serial)
            times.append(time.perf_counter() - begun)
        for _ in range(1 if is_serial else in_flight):
            slots.acquire()
        seconds = time.perf_counter() - start
        answered = [
            (len(answer), time_)
            for answer, time_ in zip(answers, times, strict=True)
            if not isinstance(answer, Exception)
        ]
        if not answered:
            raise ServerError(f"no text is answered: {_reason(answers[0])}")
        texts = sum(texts for texts, _ in answered)
        speed = max(texts / time_ for texts, time_ in answered) if is_serial else texts / seconds
        self._speeds[type(scenario)] = speed
        return speed

    def request(self, group: Group) -> Any:
        """Return the request for some texts; it is encoded once."""
        if group not in self._requests:
            self._requests[group] = self.connection.encode([self.texts[index] for index in group])
        return self._requests[group]

    def groups(self, loaded: Sequence[int], scenario: Scenario) -> list[Group]:
        """Return the texts of every request that LoadGen can ask for, given the order in which it loaded them."""
        if isinstance(scenario, Offline):  # longest first, so that none is waited for at the end
            order, size = sorted(loaded, key=lambda index: -len(self.texts[index])), self.connection.batch_size
            return [tuple(order[start : start + size]) for start in range(0, len(order), size)]
        width = scenario.samples if isinstance(scenario, MultiStream) else 1  # LoadGen's are neighbours
        return [tuple(loaded[start : start + width]) for start in range(len(loaded) - width + 1)]


def ask(connection: Connection, request: Any, done: Callable[[Labels | Exception], None], *, is_serial: bool) -> None:
    """Send a request; `done` is given whatever comes of it: errors that are raised, too."""
    try:
        if not is_serial:
            connection.ask(request, done)
            return
        answer: Labels | Exception = connection.answer(request)
    except Exception as error:  # noqa: BLE001  whatever a target raises is what is measured
        answer = error
    done(answer)


class _Issuer:
    """What LoadGen calls: sends each query's requests, and tells LoadGen of the answers."""

    def __init__(self, test: LoadTest, scenario: Scenario) -> None:
        self.errors: deque[tuple[int, str]] = deque()  # texts without an answer, reason
        self.wrong: deque[str] = deque()
        self.unsent = 0
        self.cpu_start: float | None = None
        self.cpu_seconds = 0.0
        self._test, self._scenario = test, scenario
        self._is_serial = isinstance(scenario, SingleStream | MultiStream)
        self._slots = Semaphore(test.connection.in_flight) if isinstance(scenario, Offline) else None
        self._groups: list[Group] = []
        self._requests: dict[Group, Any] = {}
        self._sent = 0
        self._finished: deque[None] = deque()  # its length is a counter that threads may share
        self._most_behind = math.inf
        if isinstance(scenario, Server):
            seconds = max(_LEAST_BEHIND_SECONDS, _MOST_BEHIND * scenario.p99_ms / 1000)
            self._most_behind = max(_WARM_UP_IN_FLIGHT, scenario.rate * seconds)

    def load(self, loaded: list[int]) -> None:
        """Encode every request, before the clock starts."""
        self._groups = self._test.groups(loaded, self._scenario)
        self._requests = {group: self._test.request(group) for group in self._groups}

    def issue(self, ids: list[int], indices: list[int]) -> None:
        """Send one query."""
        if self.cpu_start is None:
            self.cpu_start = time.process_time()
        if self._slots is None:
            self._send(tuple(indices), ids)
            return
        for group, its_ids in self._batches(ids, indices):
            self._slots.acquire()
            self._send(group, its_ids)

    def flush(self) -> None:
        """Do nothing: nothing is held back."""

    def _batches(self, ids: list[int], indices: list[int]) -> Iterator[tuple[Group, list[int]]]:
        """Yield batches of a query that holds every text equally often."""
        ids_of: defaultdict[int, deque[int]] = defaultdict(deque)
        for its_id, index in zip(ids, indices, strict=True):
            ids_of[index].append(its_id)
        for _ in range(len(ids) // len(ids_of)):
            for group in self._groups:
                yield group, [ids_of[index].popleft() for index in group]

    def _send(self, group: Group, ids: list[int]) -> None:
        if self._sent - len(self._finished) > self._most_behind:
            self.unsent += len(group)
            _complete(ids)
            return
        self._sent += 1
        done = partial(self._finish, group, ids)
        ask(self._test.connection, self._requests[group], done, is_serial=self._is_serial)

    def _finish(self, group: Group, ids: list[int], answer: Labels | Exception) -> None:
        if isinstance(answer, Exception):
            self.errors.append((len(group), _reason(answer)))
        elif len(answer) != len(group):
            self.errors.append((len(group), f"got {len(answer)} labels for {len(group)} texts"))
        elif self._test.expected is not None:
            for index, label in zip(group, answer, strict=True):
                if label != (wanted := self._test.expected[index]):
                    self.wrong.append(f"text {index}: got {label!r}, wanted {wanted!r}")
        self._finished.append(None)
        if self._slots is not None:
            self._slots.release()
        _complete(ids)


def _reason(error: Any) -> str:
    return f"{type(error).__name__}: {error}"


def _complete(ids: list[int]) -> None:
    lg.QuerySamplesComplete([lg.QuerySampleResponse(its_id, 0, 0) for its_id in ids])


def _settings(scenario: Scenario, texts_per_second: float, texts: int, seed: int) -> Any:
    settings = lg.TestSettings()
    settings.scenario = getattr(lg.TestScenario, type(scenario).__name__)
    settings.mode = lg.TestMode.PerformanceOnly
    settings.min_query_count = 1
    settings.min_duration_ms = round(scenario.seconds * 1000)
    for stream in ("qsl", "sample_index", "schedule"):
        setattr(settings, f"{stream}_rng_seed", seed)
    match scenario:
        case SingleStream():
            settings.single_stream_expected_latency_ns = max(1, round(0.5e9 / texts_per_second))
        case MultiStream(samples=samples):
            settings.multi_stream_samples_per_query = samples
            settings.multi_stream_expected_latency_ns = max(1, round(0.5e9 * samples / texts_per_second))
        case Server(rate=rate, p99_ms=p99_ms):
            settings.server_target_qps = rate
            settings.server_target_latency_ns = round(p99_ms * 1e6)
        case Offline(seconds=seconds):
            settings.min_duration_ms = 0  # the count says how long
            settings.min_query_count = texts * max(1, math.ceil(texts_per_second * seconds / texts))
    return settings


def _start(issuer: _Issuer, settings: Any, texts: int, folder: str) -> None:
    output = lg.LogOutputSettings()
    output.outdir = folder
    log = lg.LogSettings()
    log.log_output, log.enable_trace = output, True
    system = lg.ConstructFastSUT(issuer.issue, issuer.flush)
    library = lg.ConstructQSL(texts, texts, issuer.load, lambda _: None)
    try:
        lg.StartTestWithLogSettings(system, library, settings, log, "")
        issuer.cpu_seconds = time.process_time() - (issuer.cpu_start or 0.0)
    finally:
        lg.DestroyQSL(library)
        lg.DestroyFastSUT(system)


def _outcome(folder: Path, issuer: _Issuer, is_by_query: bool) -> Outcome:
    with (folder / "mlperf_log_trace.json").open("rb") as trace:
        rows = [found.groups() for line in trace if (found := _SAMPLE.search(line))]
    due_ms, query, latency_ms = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    due_ms, latency_ms = due_ms / 1e3, latency_ms / 1e6
    seconds = ((due_ms + latency_ms).max() - due_ms.min()) / 1e3
    if is_by_query:  # as late as the last of its texts
        latest = np.zeros(int(query.max()) + 1)
        np.maximum.at(latest, query.astype(np.int64), latency_ms)
        latency_ms = latest
    verdict = _VERDICT.search((folder / "mlperf_log_summary.txt").read_text())
    return Outcome(
        latencies_ms=np.sort(latency_ms),
        seconds=float(seconds),
        samples=len(rows),
        cpu_seconds=issuer.cpu_seconds,
        errors=sum(texts for texts, _ in issuer.errors),
        unsent=issuer.unsent,
        wrong=len(issuer.wrong),
        first_error=issuer.errors[0][1] if issuer.errors else "",
        first_wrong=issuer.wrong[0] if issuer.wrong else "",
        verdict=verdict[1] if verdict else "",
    )
