"""Spans for programs that trace themselves, and no OpenTelemetry for the others."""

import asyncio
import subprocess
import sys
import time

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from pipeline.client import AsyncClient, Client, Split
from pipeline.errors import ServerError
from tests.client.scripted import at_once, failing, held, scripted
from tests.client.test_retries import BUSY, both, classify, wait_for


@pytest.fixture(scope="module")
def exporter():
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture
def spans(exporter):
    """The spans that have ended since the test began."""
    exporter.clear()
    return exporter.get_finished_spans


def attributes(span):
    return {name.removeprefix("pipeline."): value for name, value in span.attributes.items()}


@both
def test_a_request_is_a_span_with_its_model_version_rows_and_retries(kind, spans):
    with scripted(failing(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size", times=1)) as (_, url):
        classify(kind, url, ["good", "fine"])
    (span,) = spans()
    assert span.name == "inference.GRPCInferenceService/ModelInfer"
    assert span.kind is trace.SpanKind.CLIENT
    assert attributes(span) == {
        "model": "tiny", "version": "1", "rows": 2, "retries": 1, "hedges": 0,
        "rpc.system": "grpc", "rpc.service": "inference.GRPCInferenceService", "rpc.method": "ModelInfer",
        "server.address": url,
    }  # fmt: skip
    assert span.status.status_code is trace.StatusCode.UNSET


def test_the_server_is_told_of_the_span_which_belongs_to_the_caller_s(spans):
    with scripted(at_once) as (server, url), trace.get_tracer("a caller").start_as_current_span("request") as request:
        classify(Client, url)
    span = spans()[0]
    trace_id, span_id = f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"
    assert server.metadata["traceparent"].startswith(f"00-{trace_id}-{span_id}-")
    assert span.parent.span_id == request.get_span_context().span_id


def test_a_span_ends_with_the_answer_however_late_that_is_read(spans):
    with scripted(at_once) as (_, url), Client(url, "tiny", batch_size=1, in_flight=2) as client:
        stream = client.stream(["one", "two"])
        next(stream)
        late = time.monotonic() + 2
        wait_for(lambda: time.monotonic() > late)
        assert len(list(stream)) == 1
    assert max(span.end_time - span.start_time for span in spans()) < 2e9


def test_a_split_s_requests_belong_to_the_caller_s_span(spans):
    tracer = trace.get_tracer("a caller")
    with (
        scripted(at_once) as (_, url),
        tracer.start_as_current_span("request") as request,
        Split(Client(url, "tiny"), Client(url, "tiny"), share=0.5) as split,
    ):
        assert len(list(split.stream(["good"] * 200))) == 200
    parents = {span.parent.span_id for span in spans() if span.name.endswith("ModelInfer")}
    assert parents == {request.get_span_context().span_id}


@both
def test_a_request_that_fails_is_a_span_with_the_reason(kind, spans):
    with scripted(BUSY) as (_, url), pytest.raises(ServerError, match="Exceeds maximum queue size"):
        classify(kind, url, retries=1)
    (span,) = spans()
    assert span.status.status_code is trace.StatusCode.ERROR
    assert "Exceeds maximum queue size" in span.status.description
    assert attributes(span)["retries"] == 1


def test_a_hedge_is_counted_in_the_span(spans):
    with scripted(held) as (_, url):
        classify(Client, url, hedge_after_seconds=0.1)
    assert attributes(spans()[0])["hedges"] == 1


def test_a_request_that_is_cancelled_is_a_span_too(spans):
    async def abandon(url):
        async with AsyncClient(url, "tiny") as client:
            await client.contract()
            task = asyncio.create_task(client.classify(["good"]))
            while not server.calls:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with scripted(held) as (server, url):
        asyncio.run(abandon(url))
    assert [span.status.description for span in spans()] == ["cancelled"]


def test_without_a_tracer_nothing_of_opentelemetry_is_imported():
    with scripted(at_once) as (server, url):
        code = (
            "import sys\n"
            "from pipeline.client import Client\n"
            "with Client(sys.argv[1], 'tiny') as client:\n"
            "    client.classify(['good'])\n"
            "print([name for name in sys.modules if name.startswith('opentelemetry')])"
        )
        done = subprocess.run([sys.executable, "-c", code, url], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n"
    assert "traceparent" not in server.metadata
