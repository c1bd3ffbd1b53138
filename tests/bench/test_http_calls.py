"""HTTP at little cost, against Python's own server."""

import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue

import pytest

from pipeline.bench.serving.http_calls import HttpCalls, post
from pipeline.errors import ServerError


class Mirror(BaseHTTPRequestHandler):
    """Answers with what it was sent; keeps the connection, hangs up, or leaves out the length, by the path."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.server.callers.add(self.client_address)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(404 if self.path == "/missing" else 200)
        if self.path != "/endless":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = self.path in ("/once", "/endless")  # without saying so

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        server.callers = set()
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def calls(server):
    with closing(HttpCalls(f"127.0.0.1:{server.server_address[1]}", connections=2)) as calls:
        yield calls


def test_a_connection_is_kept_and_made_again_when_the_server_hung_up(server, calls):
    long = b"x" * 300_000
    for body in (b"", b"one", long):
        reply = calls.answer(post("/", body, {"X-Test": "1"}))
        assert (reply.status, reply.body, reply.headers["content-length"]) == (200, body, str(len(body)))
    assert len(server.callers) == 1
    assert [calls.answer(post("/once", b"a", {})).body for _ in range(3)] == [b"a"] * 3
    assert len(server.callers) == 3


def test_many_requests_share_a_few_connections(server, calls):
    replies = SimpleQueue()
    for number in range(50):
        calls.send(post("/missing", str(number).encode(), {}), replies.put)
    got = [replies.get(timeout=10) for _ in range(50)]
    assert {reply.status for reply in got} == {404}
    assert {int(reply.body) for reply in got} == set(range(50))
    assert len(server.callers) <= 2


def test_what_cannot_be_read_or_reached_is_an_error_for_its_caller(server, calls):
    replies = SimpleQueue()
    calls.send(post("/endless", b"a", {}), replies.put)
    with pytest.raises(ServerError, match="200 OK: an answer without Content-Length"):
        raise replies.get(timeout=10)
    assert calls.answer(post("/", b"again", {})).body == b"again"
    with closing(HttpCalls("127.0.0.1:1")) as others, pytest.raises(ServerError, match="refused"):
        others.answer(post("/", b"", {}))
