"""Both clients against a real Triton."""

import asyncio
import itertools
import socket
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from pipeline.client import AsyncClient, Client, Contract, Counters
from pipeline.client.endpoint import Endpoint
from pipeline.errors import DataError, RequestError, ServerError, UsageError
from pipeline.serve import running
from tests.client.relay import Relay
from tests.serve.tiny_models import place, text_config, text_model

WORDS = ("awful", "dull", "fine", "good", "great", "unknown")


def texts(count, seed=0):
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, size=random.integers(1, 12))) for _ in range(count)]


def sequences(count, seed=0):
    random = np.random.default_rng(seed)
    return [random.normal(size=(random.integers(1, 30), 3)).astype(np.float32) for _ in range(count)]


@pytest.fixture
def client(server):
    with Client(server.grpc_url, "tiny") as client:
        yield client


@pytest.fixture
def frames(server):
    with Client(server.grpc_url, "frames") as client:
        yield client


def test_the_contract_comes_from_the_server(client, frames):
    assert client.contract() == Contract("text", ("bad", "fine", "good"), None, 64)
    assert frames.contract() == Contract("features", ("bad", "fine", "good"), 3, 64)


@pytest.mark.parametrize("count", [0, 1, 64, 65, 1000])
def test_any_number_of_texts_is_answered_in_order(client, count):
    rows = texts(count)
    alone = {row: client.classify([row])[0] for row in set(rows[:20])}
    predictions = client.classify(rows)
    assert len(predictions) == count
    for row, prediction in zip(rows[:20], predictions, strict=False):
        assert prediction.label == alone[row].label
        assert prediction.probabilities == pytest.approx(alone[row].probabilities, abs=1e-6)


def test_sequences_of_all_lengths_are_answered_in_order_as_if_each_were_alone(frames):
    rows = sequences(300)
    for row, prediction in zip(rows[:20], frames.classify(rows), strict=False):
        (alone,) = frames.classify([row])
        assert prediction.probabilities == pytest.approx(alone.probabilities, abs=1e-6)
        assert prediction.valid is True


def test_a_prediction_names_the_largest_probability(client):
    for prediction in client.classify(texts(50)):
        assert (
            prediction.probability
            == prediction.probabilities[prediction.label]
            == max(prediction.probabilities.values())
        )
        assert sum(prediction.probabilities.values()) == pytest.approx(1)


def test_bytes_that_are_not_text_are_not_valid_and_harm_nobody(client):
    rows = ["good", b"\xff\xfe", "", "a\0b", "good"]
    predictions = client.classify(rows)
    assert [prediction.valid for prediction in predictions] == [True, False, True, True, True]
    assert predictions[0] == predictions[-1] == client.classify(["good"])[0]


def test_a_batch_size_beyond_the_models_limit_is_cut_to_it(server):
    with Client(server.grpc_url, "tiny", batch_size=10_000) as client:
        assert len(client.classify(texts(500))) == 500


def test_a_large_text_is_answered(client):
    (prediction,) = client.classify(["good " * 1_000_000])
    assert prediction.valid


def test_a_stream_reads_only_a_little_ahead(server):
    read = []
    with Client(server.grpc_url, "tiny", batch_size=4, in_flight=2) as client:
        stream = client.stream(read.append(row) or row for row in texts(10_000))
        next(stream)
        stream.close()
    assert len(read) <= 4 * 4


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_compression_changes_what_travels_and_no_answer(kind, server, client):
    rows, sent = ["good film " * 100_000], {}

    async def ask(url, how):
        async with AsyncClient(url, "tiny", compression=how) as compressing:
            return await compressing.classify(rows)

    for how in ("none", "gzip"):
        with Relay(server.grpc_url) as relay:
            if kind is AsyncClient:
                predictions = asyncio.run(ask(relay.url, how))
            else:
                with Client(relay.url, "tiny", compression=how) as compressing:
                    predictions = compressing.classify(rows)
            sent[how] = relay.sent
        assert predictions == client.classify(rows)
    assert sent["none"] > 1_000_000
    assert sent["gzip"] < sent["none"] / 20


def test_threads_share_a_client(client):
    rows = texts(100)
    expected = [prediction.label for prediction in client.classify(rows)]
    with ThreadPoolExecutor(8) as pool:
        for predictions in pool.map(client.classify, [rows] * 16):
            assert [prediction.label for prediction in predictions] == expected
    assert client.counters == Counters(requests=1 + 17 * 2)  # the contract, and two requests for a hundred rows


def test_the_async_client_gives_the_same_answers(server, client):
    async def ask(rows):
        async with AsyncClient(server.grpc_url, "tiny", batch_size=16) as client:
            return await client.classify(rows)

    rows = texts(300)
    for prediction, expected in zip(asyncio.run(ask(rows)), client.classify(rows), strict=True):
        assert prediction.label == expected.label
        assert prediction.probabilities == pytest.approx(expected.probabilities, abs=1e-6)


def test_the_async_client_takes_rows_that_come_asynchronously(server, frames):
    async def arriving(rows):
        for row in rows:
            await asyncio.sleep(0)
            yield row

    async def ask(rows):
        async with AsyncClient(server.grpc_url, "frames", in_flight=3) as client:
            return [prediction.label async for prediction in client.stream(arriving(rows))]

    rows = sequences(400)
    assert asyncio.run(ask(rows)) == [prediction.label for prediction in frames.classify(rows)]


def test_tasks_share_an_async_client(server):
    async def ask():
        async with AsyncClient(server.grpc_url, "tiny") as client:
            return await asyncio.gather(*(client.classify([text]) for text in texts(50)))

    assert all(len(predictions) == 1 for predictions in asyncio.run(ask()))


def failure(kind, server_url, model, rows=("good",), **options):
    """The error that a client of either kind ends with."""

    async def ask():
        async with AsyncClient(server_url, model, **options) as client:
            await client.classify(rows)

    def wait():
        with Client(server_url, model, **options) as client:
            client.classify(rows)

    with pytest.raises(ServerError) as caught:
        wait() if kind is Client else asyncio.run(ask())
    assert "\n" not in str(caught.value)
    return caught.value


both = pytest.mark.parametrize("kind", [Client, AsyncClient])


@both
def test_a_server_that_is_not_there_is_named_with_the_next_step(kind):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound but not listening: nobody else can take it, nobody answers
        url = f"127.0.0.1:{free.getsockname()[1]}"
        error = failure(kind, url, "tiny")
    assert str(error).startswith(f"{url}: no Triton server answers on this gRPC port (Connection refused")
    assert "`pipeline serve`" in str(error)
    assert type(error) is ServerError


def test_a_server_that_goes_away_in_the_middle_ends_the_stream(tmp_path):
    place(tmp_path / "model_repository", text_config("tiny"), text_model().SerializeToString())
    with running(tmp_path / "model_repository") as server, Client(server.grpc_url, "tiny") as client:
        stream = client.stream(itertools.repeat("good"))
        next(stream)
        server.stop()
        with pytest.raises(ServerError, match=f"{server.grpc_url}: no Triton server answers"):
            deque(stream, maxlen=0)


def test_a_model_that_is_not_ready_is_told_from_one_that_is_not_there():
    models = [
        service_pb2.RepositoryIndexResponse.ModelIndex(
            name="tiny", version="1", state="UNAVAILABLE", reason="bad file"
        ),
        service_pb2.RepositoryIndexResponse.ModelIndex(name="idle"),
        service_pb2.RepositoryIndexResponse.ModelIndex(name="other", version="2", state="READY"),
    ]
    assert Endpoint(model="tiny")._missing(models) == "tiny is not ready: bad file."
    assert Endpoint(model="idle")._missing(models) == "idle is not ready: it is not loaded."
    assert Endpoint(model="none")._missing(models) == "no model none; there are: other."
    assert Endpoint(model="other")._missing(models) == ""


@both
def test_the_http_port_is_not_mistaken_for_the_grpc_port(kind, server):
    assert "no Triton server answers on this gRPC port" in str(failure(kind, server.http_url, "tiny"))


@both
def test_an_unknown_model_is_answered_with_the_models_there_are(kind, server):
    error = failure(kind, server.grpc_url, "huge")
    assert type(error) is RequestError
    names = "frames, narrow, other.candidate, strange, tiny, tiny.candidate"
    assert str(error) == f"{server.grpc_url}: no model huge; there are: {names}."


@both
def test_an_unknown_version_is_answered_with_the_versions_there_are(kind, server):
    error = failure(kind, server.grpc_url, "tiny", version="9")
    assert str(error) == f"{server.grpc_url}: tiny has no version 9; there are: 1."


@both
def test_a_missed_deadline_names_the_time_allowed(kind):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the system accepts, and nobody answers
        error = failure(kind, f"127.0.0.1:{silent.getsockname()[1]}", "tiny", timeout_seconds=0.25)
    assert "no answer from tiny within 0.25 s" in str(error)
    assert type(error) is ServerError


@both
def test_no_call_outlasts_its_deadline_to_explain_itself(kind):
    begun = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        failure(kind, f"127.0.0.1:{silent.getsockname()[1]}", "tiny", timeout_seconds=1.0)
    assert 0.9 < time.monotonic() - begun < 1.8


class Refusing(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Refuses every request at once, except the one for what it has: that one it never answers."""

    def __init__(self) -> None:
        self.is_over = threading.Event()

    def RepositoryIndex(self, request, context):  # noqa: ARG002, N802
        self.is_over.wait()


@both
def test_a_refusal_is_not_held_up_by_a_server_that_no_longer_says_what_it_has(kind):
    refusing, server = Refusing(), grpc.server(ThreadPoolExecutor(4))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(refusing, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        begun = time.monotonic()
        error = failure(kind, f"127.0.0.1:{port}", "tiny", timeout_seconds=10)
        assert time.monotonic() - begun < 5
        assert "no Triton server answers" in str(error)
    finally:
        refusing.is_over.set()
        server.stop(None).wait()


@both
def test_a_full_queue_is_a_refusal_with_advice(kind, server):
    rows = ["good " * 100_000] * 64
    error = failure(kind, server.grpc_url, "narrow", rows, batch_size=1, in_flight=64, timeout_seconds=60)
    assert type(error) is RequestError
    assert "narrow refused the request" in str(error)
    assert "fewer requests in flight" in str(error)


@both
def test_a_model_that_is_not_ours_is_refused(kind, server):
    assert "strange: not a classifier of this pipeline: output `probabilities`" in str(
        failure(kind, server.grpc_url, "strange")
    )


def test_frames_of_another_size_are_refused_before_they_are_sent(frames):
    with pytest.raises(DataError, match=r"row 0: got shape \(5, 2\), wanted numbers of shape \(frames, 3\)"):
        frames.classify([np.zeros((5, 2))])


def test_one_text_that_is_not_in_a_list_is_refused(client):
    with pytest.raises(UsageError, match="wanted a list of rows, got one str"):
        client.classify("good")


@pytest.mark.parametrize("option", [{"timeout_seconds": 0}, {"batch_size": 0}, {"in_flight": -1}])
def test_an_option_out_of_range_is_refused(option):
    with pytest.raises(UsageError, match="wanted more than 0"):
        Client(**option)


def test_a_web_address_is_refused():
    with pytest.raises(UsageError, match=r"http://localhost:8000: wanted HOST:PORT"):
        Client("http://localhost:8000")


@pytest.mark.parametrize("is_used_before", [False, True])
def test_a_client_that_was_closed_is_refused(server, is_used_before):
    client = Client(server.grpc_url, "tiny")
    client.classify(["good"] * is_used_before)
    client.close()
    with pytest.raises(UsageError, match=r"^this client is closed\. Make a new one"):
        client.classify(["good"])


@pytest.mark.parametrize("is_used_before", [False, True])
def test_an_async_client_that_was_closed_is_refused(server, is_used_before):
    async def ask():
        client = AsyncClient(server.grpc_url, "tiny")
        await client.classify(["good"] * is_used_before)
        await client.close()
        await client.classify(["good"])

    with pytest.raises(UsageError, match=r"^this client is closed\. Make a new one"):
        asyncio.run(ask())


def test_a_stream_whose_client_was_closed_ends_with_that_reason(server):
    client = Client(server.grpc_url, "tiny", batch_size=1, in_flight=1)
    stream = client.stream(itertools.repeat("good"))
    next(stream)
    client.close()
    with pytest.raises(UsageError, match="this client is closed"):
        deque(stream, maxlen=0)
