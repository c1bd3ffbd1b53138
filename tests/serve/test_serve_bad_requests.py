"""Whatever callers send: a documented answer in one line, a living server, and neighbours who notice nothing."""

import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner

from pipeline.client.access import Access
from pipeline.commands import main
from pipeline.serve import Server, running
from tests.serve.bad_requests import CASES, CLOSED, GOOD_FRAMES, GOOD_TEXT, HTTP_CASES, fuzzed, to_http
from tests.serve.load import INFER, Call, Callers, timed

pytestmark = pytest.mark.long

FUZZED, SEED = 10_000, 20_241_031
TIMEOUT_SECONDS = 30
# Triton's own Python backend refuses a whole batch for one text that says it is longer than its bytes, see SECURITY.md,
# and forgets that it did: such a server takes its full 20 seconds to stop.
LIE = (grpc.StatusCode.INVALID_ARGUMENT, "incomplete string data")


@pytest.fixture(scope="module")
def attacked(repository: Path) -> Iterator[Server]:
    """A server that lives through all of this, with neighbours who ask good rows all the while."""
    with (
        running(repository, models=("words", "frames")) as server,
        Callers(server.grpc_url, 2, GOOD_TEXT, TIMEOUT_SECONDS) as readers,
        Callers(server.grpc_url, 2, GOOD_FRAMES, TIMEOUT_SECONDS) as watchers,
    ):
        yield server
    assert server.events == [server.ready], "the server was restarted"
    for neighbours in (readers, watchers):
        answered = [call for call in neighbours.calls if call.is_answered]
        assert len(answered) > 100
        assert len({tuple(call.answer.items()) for call in answered}) == 1
    assert all(call.is_answered for call in watchers.calls)
    assert {(call.code, call.reason[: len(LIE[1])]) for call in readers.calls if not call.is_answered} <= {LIE}


@pytest.fixture(scope="module")
def ask_grpc(attacked: Server) -> Iterator[Callable[[bytes], Call]]:
    with Access().channel(attacked.grpc_url) as channel:
        infer = channel.unary_unary(INFER)
        yield lambda content: timed(0, infer.future(content, timeout=TIMEOUT_SECONDS), time.monotonic())


@pytest.fixture(scope="module")
def ask_http(attacked: Server) -> Iterator[Callable[[str, dict[str, str], bytes], tuple[int, bytes]]]:
    with closing(HTTPConnection(attacked.http_url, timeout=TIMEOUT_SECONDS)) as connection:

        def ask(path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            return response.status, response.read()

        yield ask


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_bad_request_has_its_documented_answer_over_both_protocols(case, ask_grpc, ask_http):
    call = ask_grpc(case.message.SerializeToString())
    status, content = ask_http(*to_http(case.message))
    assert (call.code.name, status) == (case.code, case.status), (call.reason, content[:500])
    if status != 200:
        assert "\n" not in json.loads(content)["error"]
    if not call.is_answered:
        assert call.reason
        assert "\n" not in call.reason


@pytest.mark.parametrize(("raw", "status"), HTTP_CASES.values(), ids=HTTP_CASES.keys())
def test_each_bad_request_on_the_wire_has_its_documented_answer(attacked, raw, status):
    host, _, port = attacked.http_url.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=TIMEOUT_SECONDS) as connection:
        try:
            connection.sendall(raw)
            answer = connection.recv(64)
        except ConnectionError:  # closed with some of the request unread
            answer = b""
    assert (int(answer.split()[1]) if answer else CLOSED) == status


def test_fuzzed_messages_are_answered_over_both_protocols(attacked, ask_grpc, ask_http):
    codes, statuses = Counter(), Counter()
    for content, asked in fuzzed(FUZZED, SEED):
        codes[ask_grpc(content).code.name] += 1
        statuses[ask_http(*asked)[0]] += 1
    assert sum(codes.values()) == sum(statuses.values()) == FUZZED
    assert codes.keys() == {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "INTERNAL"}, "INTERNAL: not a message of protobuf"
    assert statuses.keys() == {200, 400, 404, 500}, "500: not JSON, or JSON of another form"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["nowhere", "good"], "no model nowhere; there are: frames, words."),
        (["words", "good", "--model-version", "7"], "words has no version 7; there are: 1."),
    ],
)
def test_the_command_tells_what_was_wrong_in_one_line(attacked, words, reason):
    result = CliRunner().invoke(main, ["predict", *words, "--url", attacked.grpc_url])
    assert result.exit_code == 1
    assert result.stderr == f"pipeline: {attacked.grpc_url}: {reason}\n"
