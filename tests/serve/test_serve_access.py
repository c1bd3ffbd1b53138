"""Who may ask what: without the token nothing but health, over gRPC and over HTTP."""

from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import grpc
import pytest
import tritonclient.grpc as triton
from click.testing import CliRunner
from google.protobuf import message_factory
from tritonclient.grpc import service_pb2

from pipeline.client.access import TOKEN_KEY, Access
from pipeline.client.control import Control
from pipeline.commands import main
from pipeline.errors import RequestError
from pipeline.serve import Loaded, Options, Ready, Server, running
from pipeline.serve.layout import command_line
from pipeline.triton import find_triton
from tests.serve.asking import column, eventually, is_alive, serving, stubs_of
from tests.serve.tiny_models import place, text_config, text_model
from tests.wheel import options_of_triton

TOKEN = "a-secret-of:this=test"  # noqa: S105
SERVICE = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
HEALTH_CALLS = {"ServerLive", "ServerReady", "ModelReady"}
CLOSED_CALLS = {name for name in SERVICE.methods_by_name if "SharedMemory" in name} | {"TraceSetting", "LogSettings"}
HEALTH_PATHS = (
    "/v2/health/live",
    "/v2/health/ready",
    "/v2/models/words/ready",
    "/v2/models/words/versions/1/ready",
)
GUARDED_PATHS = (
    "GET /v2",
    "GET /v2/models/stats",
    *(f"GET /v2/models/words{version}{part}" for version in ("", "/versions/1") for part in ("", "/config", "/stats")),
    *(
        f"POST /v2/models/words{version}/{verb}"
        for version in ("", "/versions/1")
        for verb in ("infer", "generate", "generate_stream")
    ),
    "POST /v2/repository/index",
    "POST /v2/repository/models/words/load",
    "POST /v2/repository/models/words/unload",
)
CLOSED_PATHS = (
    *(
        f"{verb}/v2/{kind}sharedmemory{region}/{what}"
        for kind in ("system", "cuda")
        for region in ("", "/region/mine")
        for verb, what in (("GET ", "status"), ("POST ", "register"), ("POST ", "unregister"))
        if region or what != "register"
    ),
    "GET /v2/trace/setting",
    "POST /v2/trace/setting",
    "GET /v2/models/words/trace/setting",
    "POST /v2/models/words/trace/setting",
    "GET /v2/logging",
    "POST /v2/logging",
)
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F"}  # 127.0.0.1 as the kernel writes it, plain and within IPv6
LISTENING = ("0A", "07")  # TCP's LISTEN, and a UDP socket that is connected to nobody


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a token, that nothing here may disturb."""
    repository = tmp_path_factory.mktemp("guarded") / "repository"
    place(repository, text_config("words"), text_model().SerializeToString())
    with running(repository, token=TOKEN) as server:
        yield server
    assert server.events == [server.ready], "the server was restarted, or loaded something"


def call(url: str, method: str, token: str = "") -> tuple[grpc.StatusCode, str]:
    """Ask a method about the model `words` and return its status."""
    description = SERVICE.methods_by_name[method]
    request = message_factory.GetMessageClass(description.input_type)()
    for name in {"name", "model_name"} & set(description.input_type.fields_by_name):
        setattr(request, name, "words")
    access = Access(token=token)
    with access.channel(url) as channel:
        kind = channel.stream_stream if description.client_streaming else channel.unary_unary
        ask = kind(f"/{SERVICE.full_name}/{method}", type(request).SerializeToString, bytes)
        try:
            answer = ask(
                iter([request]) if description.client_streaming else request, timeout=10, metadata=access.metadata
            )
            list(answer)
        except grpc.RpcError as error:
            return error.code(), error.details()
        return grpc.StatusCode.OK, ""


def fetch(server: Server, what: str, token: str | None = None) -> int:
    """Ask over HTTP and return the status."""
    method, path = what.split()
    with closing(HTTPConnection(server.http_url, timeout=10)) as connection:
        headers = {} if token is None else {TOKEN_KEY: token}
        connection.request(method, path, b"{}" if method == "POST" else None, headers)
        return connection.getresponse().status


@pytest.mark.parametrize("token", ["", TOKEN[:-1], TOKEN.upper()])
def test_without_the_token_grpc_gives_nothing_but_health(guarded, token):
    for method in SERVICE.methods_by_name:
        code, reason = call(guarded.grpc_url, method, token)
        if method in HEALTH_CALLS:
            assert code == grpc.StatusCode.OK, method
        else:
            assert code == grpc.StatusCode.UNAVAILABLE, method
            assert "This protocol is restricted" in reason


@pytest.mark.parametrize("token", [None, "", TOKEN[:-1]])
def test_without_the_token_http_gives_nothing_but_health(guarded, token):
    assert {fetch(guarded, f"GET {path}", token) for path in HEALTH_PATHS} == {200}
    asked = (*GUARDED_PATHS, *CLOSED_PATHS)
    assert {what: fetch(guarded, what, token) for what in asked} == dict.fromkeys(asked, 403)


def test_with_the_token_everything_answers_but_what_is_closed_to_all(guarded):
    harmless = set(SERVICE.methods_by_name) - {"RepositoryModelLoad", "RepositoryModelUnload"}
    refused = {method for method in harmless if "restricted" in call(guarded.grpc_url, method, TOKEN)[1]}
    assert refused == CLOSED_CALLS
    refused = {what for what in (*GUARDED_PATHS[:-2], *CLOSED_PATHS) if fetch(guarded, what, TOKEN) == 403}
    assert refused == set(CLOSED_PATHS)


def test_without_a_token_file_shared_memory_trace_and_logging_are_still_closed(server):
    assert {method for method in CLOSED_CALLS if "restricted" not in call(server.grpc_url, method)[1]} == set()
    assert {what: fetch(server, what) for what in CLOSED_PATHS} == dict.fromkeys(CLOSED_PATHS, 403)
    assert fetch(server, "GET /v2/models/words/config") == 200


def test_requests_known_to_end_this_triton_do_nothing_without_the_token(guarded):
    """With the token both end the server: see SECURITY.md."""
    with triton.InferenceServerClient(guarded.grpc_url) as client:
        tensor = triton.InferInput("text", [1, 1], "BYTES")
        tensor.set_data_from_numpy(column(b"good"))
        with pytest.raises(triton.InferenceServerException, match="restricted"):
            client.infer("words", [tensor], outputs=[triton.InferRequestedOutput("label", class_count=1)])
    nested = b'{"inputs":[{"name":"text","shape":[1,1],"datatype":"BYTES","data":' + b"[" * 2_000_000
    with closing(HTTPConnection(guarded.http_url, timeout=30)) as connection:
        connection.request("POST", "/v2/models/words/infer", nested)
        assert connection.getresponse().status == 403
    assert is_alive(guarded.ready.pid)


def test_the_supervisor_carries_the_token_itself(words):
    with running(words, token=TOKEN) as server, Control(server.grpc_url, Access(token=TOKEN)) as control:
        first = control.answered("words")
        eventually(lambda: control.answered("words") > first)
        place(words, text_config("words"), text_model(seed=1).SerializeToString(), version=2)
        eventually(lambda: server.events[-1] == Loaded("words", (2,)))
        with Control(server.grpc_url) as stranger, pytest.raises(RequestError, match="token"):
            stranger.unload("words", 5)
        assert [type(event) for event in server.events] == [Ready, Loaded]


def test_the_command_reads_the_token_from_a_file(words, tmp_path):
    token = "0123456789abcdef"  # noqa: S105
    (tmp_path / "token").write_text(f"{token}\n")
    with serving(words, "--token-file", str(tmp_path / "token")) as (_, ready, _):
        assert call(ready["grpc"], "ModelMetadata")[0] == grpc.StatusCode.UNAVAILABLE
        assert call(ready["grpc"], "ModelMetadata", token)[0] == grpc.StatusCode.OK


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read: No such file"),
        ("é" * 20, "cannot be read: not ASCII"),
        ("", "wanted one word of 16 to 512"),
        ("short\n", "wanted one word of 16 to 512"),
        ("two words of many letters", "wanted one word of 16 to 512"),
    ],
)
def test_a_token_file_without_a_good_token_is_refused_in_one_line(words, tmp_path, content, reason):
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content, "utf-8")
    result = CliRunner().invoke(main, ["serve", str(words), "--token-file", str(file)])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"pipeline: --token-file {file}: {reason}")
    assert result.stderr.count("\n") == 1


def test_this_triton_knows_every_option_that_it_is_given(tmp_path):
    options = Options(tmp_path, verbose=True, token=TOKEN, max_memory_bytes=1)
    given = command_line(tmp_path, find_triton(), options, ("words",), "regions")[1:]
    listed = options_of_triton()
    assert {word.partition("=")[0] for word in given} <= listed
    assert "--allow-client-shm" not in listed  # then `_CLOSED` would be an option


def test_all_that_the_server_listens_on_is_three_ports_of_loopback(server: Server):
    ours = {
        link.readlink().name
        for pid in (server.ready.pid, *stubs_of(server.ready.pid))
        for link in Path(f"/proc/{pid}/fd").iterdir()
    }
    tables = [Path("/proc/net", name).read_text().splitlines()[1:] for name in ("tcp", "tcp6", "udp", "udp6")]
    rows = [row.split() for table in tables for row in table]
    listening = {tuple(row[1].split(":")) for row in rows if row[3] in LISTENING and f"socket:[{row[9]}]" in ours}
    urls = (server.ready.http, server.ready.grpc, server.ready.metrics)
    assert {address for address, _ in listening} <= LOOPBACK
    assert {int(port, 16) for _, port in listening} == {int(url.rpartition(":")[2]) for url in urls}
