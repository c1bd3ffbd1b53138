"""What the way in over HTTP makes of servers that are none, or that answer otherwise than Triton does."""

import contextlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from pipeline.client.contract import Contract
from pipeline.client.over_http import HttpClient
from pipeline.errors import RequestError, ServerError


@contextlib.contextmanager
def answering(status: int, content: bytes, headers: dict[str, str] | None = None) -> Iterator[HttpClient]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815 - as the library names it

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield HttpClient(f"127.0.0.1:{server.server_port}", "opinions")
        finally:
            server.shutdown()
            thread.join()


def test_a_web_page_is_no_triton() -> None:
    with (
        answering(200, b"<html>hello</html>") as client,
        pytest.raises(RequestError, match="no Triton server: it answers"),
    ):
        client.contract()


def test_a_refusal_is_passed_on_with_its_reason() -> None:
    reason = r'refused the request: 500 {"error": "out of memory"}'
    with answering(500, b'{"error": "out of\n memory"}') as client, pytest.raises(RequestError, match=reason):
        client.contract()


@pytest.mark.parametrize("url", ["127.0.0.1:9", "127.0.0.1:none", "[::1"])
def test_an_address_where_nobody_answers_is_said_to_be_so(url: str) -> None:
    with pytest.raises(ServerError, match="no Triton server answers on this HTTP port"):
        HttpClient(url, "opinions").contract()


PROMISED = {"name": "probabilities", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}
ANSWERS = {
    "no tensors after the JSON": ({}, {"model_name": "opinions", "outputs": []}, "not in Triton's binary form"),
    "numbers in the JSON": (
        {"Inference-Header-Content-Length": "all"},
        {"model_name": "opinions", "outputs": [{**PROMISED, "parameters": {}}]},
        "not in Triton's binary form",
    ),
    "an output short": (
        {"Inference-Header-Content-Length": "all"},
        {"model_name": "opinions", "outputs": [PROMISED]},
        "the answer's `label`: got none",
    ),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_an_answer_in_another_form_is_refused(case: str) -> None:
    headers, answer, reason = ANSWERS[case]
    content = json.dumps(answer).encode()
    sized = {name: str(len(content)) for name in headers}
    with answering(200, content + bytes(8), sized) as client:
        client._contract = Contract("text", ("good", "bad"), None, 8)
        with pytest.raises(RequestError, match=reason):
            client.classify(["a text"])
