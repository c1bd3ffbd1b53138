"""Killed, stopped, flooded, and asked for minutes: what callers of a real server see meanwhile."""

import json
import os
import signal
import time
from pathlib import Path

import grpc
import numpy as np
import pytest

from pipeline.serve import Restarting, running
from tests.serve.asking import (
    column,
    eventually,
    held_bytes,
    is_alive,
    last,
    serving,
    settled_files,
    shared_memory,
    stubs_of,
)
from tests.serve.load import Call, Callers, ask_at_a_rate, ask_in_turn, request
from tests.serve.tiny_models import place, text_config, text_model

pytestmark = pytest.mark.long

CALLERS = 8
DEADLINE_SECONDS = 3.0
LATE_SECONDS = 0.5  # a deadline is kept by a thread that must first get a processor
MAX_BATCH, QUEUE_SIZE = 4, 32
# What an accepted request waits for: the queue before it, the batch in the model, and the two that Triton has ready.
ROWS_AHEAD = QUEUE_SIZE + 3 * MAX_BATCH
OVERLOAD, OVERLOAD_SECONDS = 10, 60
PATIENCE_SECONDS = 30.0  # so long that no deadline hides a wait
REQUEST = request("words", text=column(b"a good film"))
FULL_BATCH = request("words", text=column(*[b"a good film"] * MAX_BATCH))
# A leak of so many bytes a request is found at any length, as long as it comes to several times what memory swings by
# itself: 3.5 MB over 200,000 requests. SOAK_REQUESTS=200000 soaks for minutes.
LEAK_BYTES = 500
SOAK, WARM_UP, AT_ONCE = int(os.environ.get("SOAK_REQUESTS", 60_000)), 20_000, 64
MIXED = [  # requests, and how many rows are answered, or why none is
    (request("words", text=column(b"a good film")), 1),
    (request("words", text=column(b"awful")), 1),
    (request("words", text=column("große Klasse".encode(), b"\xff\xfe", b"", b"good\0awful")), 4),
    (request("words", text=column(*[b"fine, great, dull"] * 16)), 16),
    (request("words", text=column(b"good " * 400)), 1),
    (request("frames", features=np.ones((1, 5, 3), np.float32), lengths=np.full((1, 1), 3)), 1),
    (request("frames", features=np.ones((4, 9, 3), np.float32), lengths=np.full((4, 1), 9)), 4),
    (request("frames", features=np.full((2, 5, 3), np.nan, np.float32), lengths=np.full((2, 1), -3)), 2),
    (request("words", text=column(*[b"good"] * 65)), "INVALID_ARGUMENT"),
    (request("nowhere", text=column(b"good")), "NOT_FOUND"),
]


@pytest.fixture
def toiling(tmp_path: Path) -> Path:
    """A repository of one model that needs some hundredths of a second for each row, with a short queue."""
    config = text_config("words", max_batch_size=MAX_BATCH)
    config.dynamic_batching.default_queue_policy.max_queue_size = QUEUE_SIZE
    place(tmp_path / "repository", config, text_model(toil=4).SerializeToString())
    return tmp_path / "repository"


def assert_nobody_was_harmed(calls: list[Call], deadline_seconds: float, *documented: grpc.StatusCode) -> None:
    """Every call ended in time: with the one right answer, or with a documented status."""
    assert len({tuple(sorted(call.answer.items())) for call in calls if call.is_answered}) == 1
    assert {call.code for call in calls} <= {grpc.StatusCode.OK, *documented}
    assert max(call.seconds for call in calls) <= deadline_seconds + LATE_SECONDS


@pytest.mark.serial
@pytest.mark.parametrize("victim", ["server", "stub"])
def test_after_a_kill_under_load_every_caller_is_answered_within_ten_seconds(words, victim, record_property):
    others = shared_memory()
    with running(words) as server, Callers(server.grpc_url, CALLERS, REQUEST, DEADLINE_SECONDS) as callers:
        eventually(lambda: len(callers.calls) > 10 * CALLERS)
        old = server.ready.pid
        killed = old if victim == "server" else stubs_of(old)[0]
        os.kill(killed, signal.SIGKILL)
        dead = time.monotonic() + eventually(lambda: not is_alive(killed))
        eventually(lambda: {call.caller for call in callers.answered_since(dead)} == set(range(CALLERS)), 10)
        record_property("seconds", round(time.monotonic() - dead, 1))
        eventually(lambda: server.ready.pid != old)
        assert last(server, Restarting)
    documented = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.DEADLINE_EXCEEDED)
    assert_nobody_was_harmed(callers.calls, DEADLINE_SECONDS, *documented)
    assert shared_memory() == others


@pytest.mark.serial
def test_at_sigterm_under_load_what_was_asked_is_answered_and_nothing_is_left(toiling):
    with serving(toiling) as (process, ready, _):
        family = [ready["pid"], *stubs_of(ready["pid"])]
        with Callers(ready["grpc"], CALLERS, FULL_BATCH, PATIENCE_SECONDS) as callers:
            eventually(lambda: len(callers.calls) > 2 * CALLERS, 60)
            process.terminate()
            moment = time.monotonic()
            assert process.wait(timeout=30) == 0
        in_flight = [call for call in callers.calls if call.begun < moment - 0.05 and call.ended > moment]
        assert in_flight
        assert all(call.is_answered for call in in_flight)
        # later ones: Triton is stopping; has no model any more, and still listens; closes its connections
        too_late = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.CANCELLED)
        assert_nobody_was_harmed(callers.calls, PATIENCE_SECONDS, *too_late)
        assert not [pid for pid in family if is_alive(pid)]
        assert not shared_memory(process.pid)


@pytest.mark.serial
@pytest.mark.soak
def test_ten_times_what_it_can_do_is_answered_or_refused_and_the_queue_bounds_the_wait(toiling, record_property):
    with running(toiling) as server:
        alone = median_seconds(server.grpc_url)
        with Callers(server.grpc_url, QUEUE_SIZE, REQUEST, PATIENCE_SECONDS) as callers:
            lasted = eventually(lambda: len(callers.calls) >= 10 * QUEUE_SIZE, 120)
        capacity = len(callers.calls) / lasted
        calls = ask_at_a_rate(server.grpc_url, REQUEST, OVERLOAD * capacity, OVERLOAD_SECONDS, PATIENCE_SECONDS)
        over = time.monotonic()
        eventually(lambda: median_seconds(server.grpc_url) < 3 * alone + 0.1, 5)
        back = time.monotonic() - over
        assert server.events == [server.ready]
    assert_nobody_was_harmed([*callers.calls, *calls], PATIENCE_SECONDS, grpc.StatusCode.UNAVAILABLE)
    answered = [call for call in calls if call.is_answered]
    per_second = len(answered) / (over - min(call.begun for call in calls))
    p99 = float(np.percentile([call.seconds for call in answered], 99))
    for name, value in {"capacity": capacity, "answered a second": per_second, "p99": p99, "back": back}.items():
        record_property(name, round(value, 2))
    record_property("bound", round(ROWS_AHEAD / per_second, 2))
    record_property("rows ahead", rows_ahead(answered))
    record_property("asked, answered", (len(calls), len(answered)))
    assert len(calls) - len(answered) > len(answered), "it was not flooded"
    assert rows_ahead(answered) <= ROWS_AHEAD
    assert p99 <= 2 * ROWS_AHEAD / per_second, "twice: how fast it works varies over a minute"


@pytest.mark.soak
def test_a_soak_of_mixed_requests_leaves_memory_and_descriptors_as_they_were(repository, record_property):
    messages = [message for message, _ in MIXED]
    with serving(repository, "--model", "words", "--model", "frames") as (process, ready, ready_file):
        family = (process.pid, ready["pid"], *stubs_of(ready["pid"]))
        first = ask_in_turn(ready["grpc"], messages, WARM_UP, AT_ONCE)
        memory, files = held_bytes(process.pid, ready["pid"]), settled_files(*family)
        then = ask_in_turn(ready["grpc"], messages, SOAK - WARM_UP, AT_ONCE)
        growth = held_bytes(process.pid, ready["pid"]) - memory
        record_property("memory and its growth in MB", (round(memory / 1e6), round(growth / 1e6, 1)))
        later = settled_files(*family)
        record_property("descriptors before and after", (files, later))
        assert json.loads(ready_file.read_text()) == ready, "it was restarted"
        assert later == files
        assert growth <= LEAK_BYTES * (SOAK - WARM_UP)
    each = (SOAK - WARM_UP) // len(MIXED)
    for (_, wanted), warm, became in zip(MIXED, first, then, strict=True):
        (answer,) = warm  # always the same
        assert became == {answer: each}
        assert answer == wanted if isinstance(wanted, str) else len(answer) > 4 * wanted


def rows_ahead(answered: list[Call]) -> int:
    """How many others were answered while a call waited, at most: the queue's promise, whatever the machine's speed."""
    ends = np.sort([call.ended for call in answered])
    waits = np.array([(call.begun, call.ended) for call in answered])
    return int((np.searchsorted(ends, waits[:, 1], "left") - np.searchsorted(ends, waits[:, 0], "right")).max())


def median_seconds(url: str) -> float:
    """How long a lone caller waits."""
    with Callers(url, 1, REQUEST, PATIENCE_SECONDS) as callers:
        eventually(lambda: len(callers.calls) >= 5)
    return float(np.median([call.seconds for call in callers.calls]))
