"""Killed, stopped, flooded: what callers see meanwhile, asked of a real server."""

import os
import signal
import time
from collections import Counter
from pathlib import Path

import grpc
import numpy as np
import pytest

from pipeline.serve import Restarting, running
from tests.serve.asking import column, eventually, is_alive, shared_memory, stubs_of
from tests.serve.load import Call, Callers, ask_at_a_rate, request
from tests.serve.test_serve_lifecycle import last, serving
from tests.serve.tiny_models import place, text_config, text_model

CALLERS = 8
DEADLINE_SECONDS = 3.0
LATE_SECONDS = 0.5  # a deadline is kept by a thread that must get a processor
QUEUE_SIZE = 32
AHEAD = QUEUE_SIZE + 3 * 4  # rows before an accepted one: the queue's, and the batches that wait for the model or are in it
OVERLOAD_SECONDS = 60
ONE_ROW = request("words", text=column(b"a good film"))
REQUEST = request("words", text=column(b"a good film", b"awful, awful"))


def assert_nobody_was_harmed(calls: list[Call], *documented: grpc.StatusCode) -> None:
    """Every call ended in time: with the one right answer, or with a documented status."""
    answers = {tuple(sorted(call.answer.items())) for call in calls if call.is_answered}
    assert len(answers) == 1
    assert {call.code for call in calls} <= {grpc.StatusCode.OK, *documented}
    assert max(call.seconds for call in calls) <= DEADLINE_SECONDS + LATE_SECONDS


@pytest.mark.parametrize("victim", ["server", "stub"])
def test_after_a_kill_under_load_every_caller_is_answered_within_ten_seconds(words, victim):
    others = shared_memory()
    with running(words) as server, Callers(server.grpc_url, CALLERS, REQUEST, DEADLINE_SECONDS) as callers:
        eventually(lambda: len(callers.calls) > 10 * CALLERS)
        old = server.ready.pid
        moment = time.monotonic()
        os.kill(old if victim == "server" else stubs_of(old)[0], signal.SIGKILL)
        eventually(lambda: {call.caller for call in callers.answered_since(moment)} == set(range(CALLERS)), 10)
        eventually(lambda: server.ready.pid != old)
        assert last(server, Restarting)
        first = {
            caller: min(call.ended for call in callers.answered_since(moment) if call.caller == caller) - moment
            for caller in range(CALLERS)
        }
        print(victim, min(first.values()), max(first.values()), last(server, Restarting), Counter((c.code, c.reason) for c in callers.calls))
    assert_nobody_was_harmed(
        callers.calls, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.DEADLINE_EXCEEDED
    )
    assert shared_memory() == others


@pytest.fixture
def toiling(tmp_path: Path) -> Path:
    """A repository of one model that needs a few hundredths of a second for a row, with a short queue."""
    config = text_config("words", max_batch_size=4)
    config.dynamic_batching.default_queue_policy.max_queue_size = QUEUE_SIZE
    place(tmp_path / "repository", config, text_model(toil=4).SerializeToString())
    return tmp_path / "repository"


def test_at_sigterm_under_load_what_was_asked_is_answered_and_nothing_is_left(toiling):
    with serving(toiling) as (process, ready, _):
        family = [ready["pid"], *stubs_of(ready["pid"])]
        with Callers(ready["grpc"], CALLERS, ONE_ROW, DEADLINE_SECONDS) as callers:
            eventually(lambda: len(callers.calls) > 5 * CALLERS)
            process.terminate()
            moment = time.monotonic()
            assert process.wait(timeout=30) == 0
            took = time.monotonic() - moment
        in_flight = [call for call in callers.calls if call.begun < moment - 0.05 < moment < call.ended]
        print(took, len(in_flight), Counter((c.code, c.reason) for c in callers.calls))
        assert in_flight
        assert all(call.is_answered for call in in_flight)
        assert_nobody_was_harmed(callers.calls, grpc.StatusCode.UNAVAILABLE)
        assert not [pid for pid in family if is_alive(pid)]
        assert not shared_memory(process.pid)


@pytest.mark.soak
def test_ten_times_more_than_it_can_do_is_answered_or_refused_and_the_queue_bounds_the_wait(toiling):
    with running(toiling) as server:
        with Callers(server.grpc_url, QUEUE_SIZE, ONE_ROW, DEADLINE_SECONDS) as callers:
            begun = time.monotonic()
            eventually(lambda: time.monotonic() - begun > 5)
        capacity = len(callers.calls) / (time.monotonic() - begun)
        alone = median_seconds(server.grpc_url)
        calls = ask_at_a_rate(server.grpc_url, ONE_ROW, 10 * capacity, OVERLOAD_SECONDS, DEADLINE_SECONDS)
        over = time.monotonic()
        back = eventually(lambda: median_seconds(server.grpc_url) < 2 * alone, 5)
        answered = [call for call in calls if call.is_answered]
        rate = len(answered) / (max(call.ended for call in answered) - min(call.begun for call in calls))
        p99 = float(np.percentile([call.seconds for call in answered], 99))
        refused = [call.seconds for call in calls if not call.is_answered]
        print(dict(capacity=capacity, alone=alone, asked=len(calls), over=over-max(c.ended for c in calls), back=back, answered=len(answered), rate=rate, p50=np.median([call.seconds for call in answered]), p99=p99, bound=AHEAD/capacity, bound2=AHEAD/rate, refused=np.percentile(refused, [50, 99]), stats=Counter((c.code, c.reason) for c in calls), span=max(c.begun for c in calls)-min(c.begun for c in calls)))
        assert server.events == [server.ready]
    assert_nobody_was_harmed([*callers.calls, *calls], grpc.StatusCode.UNAVAILABLE)
    assert p99 <= AHEAD / capacity * 2


def median_seconds(url: str) -> float:
    """How long a lone caller waits."""
    with Callers(url, 1, ONE_ROW, DEADLINE_SECONDS) as callers:
        eventually(lambda: len(callers.calls) >= 5)
    return float(np.median([call.seconds for call in callers.calls]))
