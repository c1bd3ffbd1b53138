"""The gateway before a real Triton: who may ask what, how large a request may be; Triton sees nothing of the rest."""

import json
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from tritonclient.grpc import service_pb2

from pipeline.client import Access, Client
from pipeline.client.control import Control
from pipeline.errors import RequestError, ServerError
from pipeline.repository.goldens import Goldens
from tests.deploy.conftest import MODEL
from tests.deploy.deployment import Deployment, caller_of, output_of, run

pytestmark = pytest.mark.docker

Code = grpc.StatusCode
SERVICE = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
HEALTH_CALLS = {"ServerLive", "ServerReady", "ModelReady"}
HEALTH_PATHS = (
    "/v2/health/live",
    "/v2/health/ready",
    f"/v2/models/{MODEL}/ready",
    f"/v2/models/{MODEL}/versions/1/ready",
)
CAP = 9_000_000


def call(url: str, access: Access, method: str) -> tuple[grpc.StatusCode, str]:
    """Ask a method about the model and return its status."""
    description = SERVICE.methods_by_name[method]
    request = message_factory.GetMessageClass(description.input_type)()
    for name in {"name", "model_name"} & set(description.input_type.fields_by_name):
        setattr(request, name, MODEL)
    return ask(url, access, f"/{SERVICE.full_name}/{method}", request.SerializeToString(), description.client_streaming)


def ask(url: str, access: Access, path: str, message: bytes, is_stream: bool = False, **options: Any):
    with access.channel(url) as channel:
        try:
            if is_stream:
                list(channel.stream_stream(path)(iter([message]), timeout=10, metadata=access.metadata))
            else:
                channel.unary_unary(path)(message, timeout=30, metadata=access.metadata, **options)
        except grpc.RpcError as error:
            return error.code(), error.details()
    return Code.OK, ""


def infer(text: bytes) -> bytes:
    message = service_pb2.ModelInferRequest(model_name=MODEL)
    message.inputs.add(name="text", datatype="BYTES", shape=(1, 1))
    message.raw_input_contents.append(len(text).to_bytes(4, "little") + text)
    return message.SerializeToString()


INFER = f"/{SERVICE.full_name}/ModelInfer"


def fetch(
    deployment: Deployment, what: str, access: Access, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    """Ask over HTTPS; an iterable body is sent in chunks."""
    context = ssl.create_default_context(cafile=access.ca)
    if access.certificate:
        context.load_cert_chain(access.certificate, access.key)
    method, path = what.split()
    connection = HTTPSConnection("localhost", int(deployment.settings["PORT"]), timeout=30, context=context)
    try:
        connection.request(method, path, body, headers or {}, encode_chunked=isinstance(body, Iterator))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def triton_process(deployment: Deployment) -> str:
    """Return what changes when Triton ends and another takes its place."""
    shown = deployment.execute("light", "sh", "-c", "grep -l '^Name:.tritonserver$' /proc/[0-9]*/status")
    assert re.fullmatch("/proc/[0-9]+/status\n", shown.stdout), shown
    return shown.stdout + deployment.inspect("light")["State"]["StartedAt"]


def bytes_to_triton(deployment: Deployment) -> float:
    """Return how many bytes of requests the gateway has passed on."""
    script = "from urllib.request import urlopen; print(urlopen('http://127.0.0.1:8404/metrics').read().decode())"
    shown = deployment.execute("gateway", "python", "-c", script).stdout
    return sum(map(float, re.findall(r'^haproxy_backend_bytes_in_total{proxy="(?:grpc|http)"} (\S+)$', shown, re.M)))


def test_a_caller_with_a_certificate_is_given_the_verified_answers(light: Deployment, served_repository: Path) -> None:
    goldens = Goldens.load(served_repository / MODEL / "1")
    with Client(light.url, MODEL, access=light.caller) as client:
        answers = client.classify([golden.row for golden in goldens.rows])
    assert len(answers) > 3
    assert goldens.faults((answer.label, tuple(answer.probabilities.values())) for answer in answers) == []


def test_http_goes_through_the_same_port(light: Deployment, served_repository: Path) -> None:
    golden = Goldens.load(served_repository / MODEL / "1").rows[0]
    body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": [golden.row]}]}
    status, content = fetch(light, f"POST /v2/models/{MODEL}/infer", light.caller, json.dumps(body))
    assert status == 200
    outputs = {output["name"]: output["data"] for output in json.loads(content)["outputs"]}
    assert outputs["label"] == [golden.label]
    assert outputs["probabilities"] == pytest.approx(golden.probabilities, abs=1e-5)


def test_without_a_certificate_grpc_gives_nothing_but_health(light: Deployment) -> None:
    answers = {method: call(light.url, light.stranger, method) for method in SERVICE.methods_by_name}
    refused = (Code.UNAUTHENTICATED, "a client certificate is required")
    assert answers == {method: (Code.OK, "") if method in HEALTH_CALLS else refused for method in answers}
    assert ask(light.url, light.stranger, "/grpc.health.v1.Health/Check", b"") == (Code.OK, "")


def test_a_message_may_come_later_than_its_head_and_the_end_later_still(light: Deployment) -> None:
    """The gateway judges a message by its first bytes, and waits for them; Triton does not wait for an end."""

    def late() -> Iterator[bytes]:
        threading.Event().wait(0.5)
        yield b""
        threading.Event().wait(0.5)

    for access in (light.stranger, light.caller):
        with access.channel(light.url) as channel:
            channel.stream_unary("/grpc.health.v1.Health/Check")(late(), timeout=10)


def test_without_a_certificate_http_gives_nothing_but_health(light: Deployment) -> None:
    assert {fetch(light, f"GET {path}", light.stranger)[0] for path in HEALTH_PATHS} == {200}
    others = ("GET /v2/models/stats", f"GET /v2/models/{MODEL}", f"GET /v2/models/{MODEL}/config", "GET /v2/logging")
    others += ("GET /v2/health/ready/../../logging", f"POST /v2/models/{MODEL}/infer", "POST /v2/repository/index")
    refused = (401, b'{"error":"a client certificate is required"}')
    assert {what: fetch(light, what, light.stranger, "{}") for what in others} == dict.fromkeys(others, refused)


def test_a_certificate_of_another_authority_is_refused(light: Deployment, other_secrets: Path) -> None:
    theirs = replace(caller_of(other_secrets), ca=light.caller.ca)
    assert call(light.url, theirs, "ServerLive")[0] == Code.UNAVAILABLE
    with pytest.raises(ssl.SSLError, match="UNKNOWN_CA|unknown ca"):
        fetch(light, "GET /v2/health/live", theirs)
    with pytest.raises(ServerError), Client(light.url, MODEL, access=theirs) as client:
        client.classify(["anything"])


def test_the_gateways_own_certificate_is_not_a_callers(light: Deployment) -> None:
    folder = light.secrets / "gateway"
    server = Access(folder / "ca.crt", folder / "server.crt", folder / "server.key")
    assert call(light.url, server, "ServerLive")[0] == Code.UNAVAILABLE


def test_a_caller_refuses_a_gateway_of_another_authority(light: Deployment, other_secrets: Path) -> None:
    assert call(light.url, caller_of(other_secrets), "ServerLive")[0] == Code.UNAVAILABLE


def test_without_tls_nothing_is_said(light: Deployment) -> None:
    assert call(light.url, Access(), "ServerLive")[0] == Code.UNAVAILABLE


def test_a_certificate_is_enough_to_use_a_model_and_not_to_change_what_is_served(light: Deployment) -> None:
    answers = {method: call(light.url, light.caller, method) for method in SERVICE.methods_by_name}
    usable = HEALTH_CALLS | {"ServerMetadata", "ModelMetadata", "ModelConfig", "RepositoryIndex"}
    assert {method for method, (code, _) in answers.items() if code == Code.OK} == usable
    assert answers.pop("ModelInfer")[0] == Code.INVALID_ARGUMENT  # Triton's own word: it was sent no text
    assert answers.pop("ModelStreamInfer") == (Code.UNIMPLEMENTED, "streams are not served here; use ModelInfer")
    reasons = {reason for method, (_, reason) in answers.items() if method not in usable}
    assert reasons == {"This protocol is restricted, expecting header 'triton-grpc-protocol-pipeline-token'"}
    assert fetch(light, f"POST /v2/repository/models/{MODEL}/unload", light.caller, "{}")[0] == 403
    assert fetch(light, f"GET /v2/models/{MODEL}/config", light.caller)[0] == 200


def test_with_the_token_models_are_loaded_and_counted(light: Deployment) -> None:
    with Control(light.url, replace(light.caller, token=light.token)) as control:
        control.load(MODEL, 30)
        before = control.answered(MODEL)
        control.ask(MODEL, 10)
        assert control.answered(MODEL) > before
    for token in ("", light.token[:-1], light.token.upper()):
        with (
            Control(light.url, replace(light.caller, token=token)) as control,
            pytest.raises(RequestError, match="token"),
        ):
            control.load(MODEL, 30)
    header = {"pipeline-token": light.token}
    assert fetch(light, f"POST /v2/repository/models/{MODEL}/load", light.caller, "", header)[0] == 200


def test_the_token_is_of_no_use_without_a_certificate(light: Deployment) -> None:
    access = replace(light.stranger, token=light.token)
    assert call(light.url, access, "RepositoryModelUnload")[0] == Code.UNAUTHENTICATED


@pytest.mark.parametrize("size", [CAP, 40_000_000], ids=["just above the cap", "far above it"])
def test_a_request_above_the_cap_is_refused_in_words_and_triton_sees_nothing_of_it(
    light: Deployment, size: int
) -> None:
    process, before = triton_process(light), bytes_to_triton(light)
    refusal = "the request is larger than the gateway allows; send fewer rows at once"
    assert ask(light.url, light.caller, INFER, infer(b"a" * size)) == (Code.RESOURCE_EXHAUSTED, refusal)
    status, content = fetch(light, f"POST /v2/models/{MODEL}/infer", light.caller, b"a" * (size + 1))
    assert (status, json.loads(content)) == (413, {"error": refusal})
    assert bytes_to_triton(light) - before < 100_000  # what the health check and other callers asked meanwhile
    assert ask(light.url, light.caller, INFER, infer(b"a lovely film")) == (Code.OK, "")
    assert triton_process(light) == process


def test_a_request_just_below_the_cap_is_answered(light: Deployment) -> None:
    assert ask(light.url, light.caller, INFER, infer(b"a" * (CAP - 1000))) == (Code.OK, "")


def test_a_compressed_request_is_refused_because_the_cap_would_not_hold(light: Deployment) -> None:
    zipped = ask(light.url, light.caller, INFER, infer(b"a" * 1_000_000), compression=grpc.Compression.Gzip)
    assert zipped == (Code.UNIMPLEMENTED, "compressed requests are refused: they could be any size")
    headers = {"Content-Encoding": "gzip"}
    assert fetch(light, f"POST /v2/models/{MODEL}/infer", light.caller, b"{}", headers)[0] == 415


def test_small_chunks_which_end_this_triton_never_reach_it(light: Deployment) -> None:
    """See SECURITY.md; over HTTP/2 a body of unknown length would become chunks, too."""
    process = triton_process(light)
    chunks = (b"{" for _ in range(1000))
    assert fetch(light, f"POST /v2/models/{MODEL}/infer", light.caller, chunks)[0] == 411
    assert fetch(light, "GET /v2/health/live", light.stranger, iter([b"{"]))[0] == 400
    assert fetch(light, "GET /v2/health/live", light.stranger, b"{}")[0] == 400
    assert triton_process(light) == process


def test_from_this_machine_only_the_gateway_is_reached_and_only_on_loopback(light: Deployment) -> None:
    port = int(light.settings["PORT"])
    socket.create_connection(("127.0.0.1", port), timeout=5).close()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outward:
        outward.connect(("192.0.2.1", 9))  # sends nothing; tells which of our addresses others see
        address = outward.getsockname()[0]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address, port), timeout=5)
    label = f"--filter=label=com.docker.compose.project={light.project}"
    published = output_of("docker", "ps", label, "--filter=name=_light_|_gateway_", "--format", "{{.Ports}}").split()
    assert [entry for entry in published if "->" in entry] == [f"127.0.0.1:{port}->8443/tcp"]


def test_from_a_container_outside_triton_is_not_reached(light: Deployment) -> None:
    networks = light.inspect("light")["NetworkSettings"]["Networks"]
    (address,) = (network["IPAddress"] for network in networks.values())
    script = f"import socket; socket.create_connection(('{address}', 8001), timeout=2)"
    network = f"--network={light.project}_outside"
    tried = run("docker", "run", "--rm", network, "--entrypoint=python", light.image, "-c", script)
    assert "TimeoutError" in tried.stderr or "unreachable" in tried.stderr, tried


def test_the_gateway_finds_a_server_that_was_made_anew(light: Deployment) -> None:
    light.compose("light", "up", "--detach", "--force-recreate", "--no-deps", "light")
    light.start("light", "light", "gateway")
    with Client(light.url, MODEL, access=light.caller, timeout_seconds=30) as client:
        assert client.classify(["a lovely film"])[0].valid
