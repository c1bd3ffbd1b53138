"""What is sent again, when, how often, and what never is."""

import asyncio
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.client import AsyncClient, Client, Counters
from pipeline.client.retries import BUDGET_BURST, BUDGET_SHARE, LONGEST_PAUSE_SECONDS, Budget, Pending
from pipeline.errors import ServerError, UsageError
from tests.client.relay import Relay
from tests.client.scripted import at_once, failing, held, scripted

BUSY = failing(grpc.StatusCode.UNAVAILABLE, "[request id: <id_unknown>] Exceeds maximum queue size")
PASSING = {
    "a full queue": (grpc.StatusCode.UNAVAILABLE, "[request id: <id_unknown>] Exceeds maximum queue size"),
    "a server that stops": (
        grpc.StatusCode.UNAVAILABLE,
        "Server is stopping, scheduler for model has stopped accepting new inference requests",
    ),
    "a version between two states": (
        grpc.StatusCode.UNAVAILABLE,
        "Request for unknown model: 'tiny' version 1 is not at ready state",
    ),
    "a model that is being unloaded": (
        grpc.StatusCode.NOT_FOUND,
        "Request for unknown model: 'tiny' has no available versions",
    ),
}
LASTING = {
    "invalid input": (grpc.StatusCode.INVALID_ARGUMENT, "unexpected shape for input 'text'"),
    "an unknown model": (grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'tiny' is not found"),
    "a wrong token": (
        grpc.StatusCode.UNAVAILABLE,
        "This protocol is restricted, expecting header 'triton-grpc-protocol-pipeline-token'",
    ),
    "time that ran out at the server": (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"),
    "a fault in the model": (grpc.StatusCode.INTERNAL, "onnx runtime error"),
}
both = pytest.mark.parametrize("kind", [Client, AsyncClient])


def classify(kind, url, rows=("good",), **options):
    """Classify with a client of either kind; return the labels and what the client counted."""

    async def ask():
        async with AsyncClient(url, "tiny", **options) as client:
            return [prediction.label for prediction in await client.classify(rows)], client.counters

    if kind is AsyncClient:
        return asyncio.run(ask())
    with Client(url, "tiny", **options) as client:
        return [prediction.label for prediction in client.classify(rows)], client.counters


@both
@pytest.mark.parametrize("case", PASSING)
def test_what_passes_is_sent_again_until_it_is_answered(kind, case):
    with scripted(failing(*PASSING[case], times=2)) as (server, url):
        assert classify(kind, url) == (["good"], Counters(requests=2, retries=2))  # one of them for the contract
    assert server.calls == 3


@both
@pytest.mark.parametrize("case", LASTING)
def test_what_lasts_is_sent_once(kind, case):
    with scripted(failing(*LASTING[case])) as (server, url):
        with pytest.raises(ServerError, match="tiny|token"):
            classify(kind, url)
        assert server.calls == 1


@both
def test_without_retries_everything_is_sent_once(kind):
    with scripted(BUSY) as (server, url):
        with pytest.raises(ServerError, match="Exceeds maximum queue size"):
            classify(kind, url, retries=0)
        assert server.calls == 1


@both
def test_a_request_is_given_up_when_its_retries_are_used_up(kind):
    with scripted(BUSY) as (server, url):
        with pytest.raises(ServerError, match="Exceeds maximum queue size"):
            classify(kind, url, retries=2)
        assert server.calls == 3


@both
def test_the_deadline_holds_for_all_attempts_together(kind):
    with scripted(BUSY) as (_, url):
        begun = time.monotonic()
        with pytest.raises(ServerError, match="Exceeds maximum queue size"):
            classify(kind, url, retries=1000, timeout_seconds=1.0)
        assert time.monotonic() - begun < 2.5  # and the second in which the server is asked what it has


@both
def test_the_last_attempt_has_only_the_time_that_is_left(kind):
    def act(number, server, context):
        if number == 1:
            server.is_over.wait(0.6)
            context.abort(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")
        server.left = context.time_remaining()

    with scripted(act) as (server, url):
        classify(kind, url, timeout_seconds=5.0)
        assert server.left < 4.5


def test_a_slow_reader_costs_a_request_none_of_its_time():
    refused = threading.Event()

    def act(number, server, context):
        if b"two" in server.contents[number] and not refused.is_set():
            refused.set()
            context.abort(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")

    with scripted(act) as (_, url), Client(url, "tiny", batch_size=1, in_flight=2, timeout_seconds=1.5) as client:
        stream = client.stream(["one", "two", "three"])
        next(stream)
        assert refused.wait(10)
        late = time.monotonic() + 1.6  # slower than the deadline, and the second request has still to be sent again
        wait_for(lambda: time.monotonic() > late)
        assert len(list(stream)) == 2
        assert client.counters.retries == 1


def test_overload_is_not_amplified():
    count = 200
    with scripted(BUSY) as (server, url), Client(url, "tiny", timeout_seconds=30, retries=5) as client:
        client.contract()
        for _ in range(count):
            with pytest.raises(ServerError, match="Exceeds maximum queue size"):
                client.classify(["good"])
        assert server.calls <= count + BUDGET_BURST + BUDGET_SHARE * (count + 1)
        counters = client.counters
        assert counters.requests == count + 1
        assert counters.retries == server.calls - count
        assert counters.denied > 0
        assert counters.failures == count


@given(st.lists(st.sampled_from(["request", "retries", "hedges", "free"]), max_size=400))
def test_the_budget_is_never_overdrawn(events):
    budget, taken = Budget(), 0
    for number, event in enumerate(events):
        if event == "request":
            budget.request()
        elif event == "free":
            assert budget.takes("retries", is_free=True)
        else:
            taken += budget.takes(event)
        assert taken <= BUDGET_BURST + BUDGET_SHARE * (number + 1)
    counters = budget.counters()
    assert counters.retries + counters.hedges == taken + events.count("free")
    assert counters.requests + counters.retries + counters.hedges + counters.denied == len(events)


def test_a_server_that_is_away_costs_no_budget():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound but not listening
        url = f"127.0.0.1:{free.getsockname()[1]}"
        with Client(url, "tiny", retries=1000, timeout_seconds=8) as client:
            with ThreadPoolExecutor(8) as pool:
                for error in pool.map(failure_of, [client] * 8):
                    assert "no Triton server answers" in str(error)
            assert client.counters.retries > BUDGET_BURST + 1
            assert client.counters.denied == 0


def failure_of(client):
    with pytest.raises(ServerError) as caught:
        client.contract()
    return caught.value


class Call:
    def add_done_callback(self, callback):
        callback(self)


def test_pauses_are_drawn_from_zero_to_twice_as_much_each_time_up_to_a_longest():
    drawn = [[] for _ in range(8)]
    for _ in range(300):
        pending = Pending(lambda _: Call(), timeout_seconds=1000)
        for pauses in drawn:
            pauses.append(pending.pause_seconds())
            pending.send_again()
    for number, pauses in enumerate(drawn):
        longest = min(LONGEST_PAUSE_SECONDS, 0.1 * 2**number)
        assert 0 <= min(pauses) < 0.1 * longest
        assert 0.9 * longest < max(pauses) <= longest


@both
def test_a_connection_that_is_cut_during_a_call_is_made_again(kind):
    with scripted(held) as (server, url):
        with Relay(url) as relay:
            cutter = threading.Thread(target=cut_when_called, args=(relay, server))
            cutter.start()
            labels, counters = classify(kind, relay.url, timeout_seconds=30)
            cutter.join()
        assert labels == ["good"]
        assert counters.retries >= 1
        assert relay.accepted >= 2


def cut_when_called(relay, server):
    wait_for(lambda: server.calls)
    relay.cut()


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@both
def test_an_answer_that_is_late_is_overtaken_by_a_hedge_and_cancelled(kind):
    with scripted(held) as (server, url):
        labels, counters = classify(kind, url, hedge_after_seconds=0.2, timeout_seconds=60)
        assert labels == ["good"]
        assert counters == Counters(requests=2, hedges=1)
        assert server.cancelled.wait(30)


@both
def test_the_first_answer_counts_when_the_hedge_fails(kind):
    def act(number, server, context):
        if number == 1:
            wait_for(lambda: server.calls == 2)
            time.sleep(0.1)
        else:
            context.abort(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")

    with scripted(act) as (server, url):
        assert classify(kind, url, hedge_after_seconds=0.1, timeout_seconds=60) == (
            ["good"],
            Counters(requests=2, hedges=1),
        )
    assert server.calls == 2


@both
def test_a_request_of_which_both_calls_fail_is_sent_again(kind):
    def act(number, server, context):
        if number <= 2:
            wait_for(lambda: server.calls >= 2)
            context.abort(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")

    with scripted(act) as (_, url):
        labels, counters = classify(kind, url, hedge_after_seconds=0.1, timeout_seconds=60)
    assert labels == ["good"]
    assert counters.retries == 1


@both
def test_an_answer_in_time_is_not_hedged(kind):
    with scripted(at_once) as (server, url):
        _, counters = classify(kind, url, ["good"] * 200, batch_size=4, hedge_after_seconds=30)
        assert (counters.hedges, server.calls) == (0, 50)


@both
def test_an_answer_that_waited_for_a_slow_reader_is_not_hedged(kind):
    options, texts = {"batch_size": 1, "in_flight": 2, "hedge_after_seconds": 0.2}, ["good"] * 4

    async def read_slowly(url):
        async with AsyncClient(url, "tiny", **options) as client:
            await client.contract()
            async for _ in client.stream(texts):
                await asyncio.sleep(0.3)
            return client.counters

    with scripted(at_once) as (_, url):
        if kind is AsyncClient:
            assert asyncio.run(read_slowly(url)).hedges == 0
            return
        with Client(url, "tiny", **options) as client:
            for _ in client.stream(texts):
                time.sleep(0.3)
            assert client.counters.hedges == 0


def test_hedges_count_against_the_budget():
    with scripted(lambda *_: time.sleep(0.05)) as (_, url):
        _, counters = classify(Client, url, ["good"] * 40, batch_size=1, in_flight=1, hedge_after_seconds=0.001)
    assert 0 < counters.hedges <= BUDGET_BURST + BUDGET_SHARE * 41
    assert counters.denied > 0


@pytest.mark.parametrize(
    "option", [{"retries": -1}, {"hedge_after_seconds": 0}, {"hedge_after_seconds": -1}, {"compression": "zip"}]
)
def test_an_option_that_means_nothing_is_refused(option):
    with pytest.raises(UsageError, match="wanted"):
        Client(**option)


@both
def test_closing_a_stream_cancels_its_requests_at_the_server(kind):
    def act(number, server, context):
        if b"hold" in server.contents[number]:
            server.wait(context)

    async def abandon(url):
        async with AsyncClient(url, "tiny", batch_size=1, in_flight=2) as client:
            stream = client.stream(["good", "hold"])
            await anext(stream)
            await asyncio.to_thread(wait_for, lambda: server.calls == 2)
            await stream.aclose()
            assert await asyncio.to_thread(server.cancelled.wait, 30)

    with scripted(act) as (server, url):
        if kind is AsyncClient:
            asyncio.run(abandon(url))
            return
        with Client(url, "tiny", batch_size=1, in_flight=2) as client:
            stream = client.stream(["good", "hold"])
            next(stream)
            wait_for(lambda: server.calls == 2)
            stream.close()
            assert server.cancelled.wait(30)


@both
def test_closing_a_client_refuses_what_is_on_its_way(kind):
    async def close_async(url):
        client = AsyncClient(url, "tiny", timeout_seconds=60)
        task = asyncio.create_task(client.classify(["good"]))
        await asyncio.to_thread(wait_for, lambda: server.calls)
        await client.close()
        await task

    def close(url):
        client = Client(url, "tiny", timeout_seconds=60)
        with ThreadPoolExecutor(1) as thread:
            answer = thread.submit(client.classify, ["good"])
            wait_for(lambda: server.calls)
            client.close()
            answer.result()

    with scripted(held) as (server, url), pytest.raises(UsageError, match="this client is closed"):
        asyncio.run(close_async(url)) if kind is AsyncClient else close(url)


def test_cancelling_a_task_cancels_its_request_at_the_server():
    async def abandon(url):
        async with AsyncClient(url, "tiny", timeout_seconds=60) as client:
            task = asyncio.create_task(client.classify(["good"]))
            await asyncio.to_thread(wait_for, lambda: server.calls)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(server.cancelled.wait, 30)

    with scripted(held) as (server, url):
        asyncio.run(abandon(url))


def test_a_slow_reader_is_not_run_ahead_of():
    sent = []
    with scripted(at_once) as (server, url):
        with Client(url, "tiny", batch_size=4, in_flight=3) as client:
            for number, _ in enumerate(client.stream(sent.append(text) or text for text in ["good"] * 400)):
                # a window of rows is cut at once, and one more request may be on its way than has been read
                assert len(sent) <= number + 1 + 2 * 4 * 3
                assert server.calls <= number // 4 + 1 + 3
        assert server.calls == 100
