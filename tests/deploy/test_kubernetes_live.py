"""The Deployment's own arguments, given to a real Triton: who may ask what, and what the probes see."""

import datetime
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pipeline.client import Access, Client
from pipeline.client.control import Control
from pipeline.errors import PipelineError, RequestError, ServerError
from pipeline.serve.layout import environment, lay_out
from pipeline.triton import find_triton
from tests.deploy.manifests import one, written
from tests.deploy.test_kubernetes_files import NEWER_THAN_THE_WHEEL, PORTS

MODEL = "opinions"
TOKEN = "0123456789abcdef"  # noqa: S105
READY_WITHIN_SECONDS = 60


class Pod:
    """One container of the Deployment, as a process on this machine."""

    def __init__(self, folder: Path, ports: dict[str, int], process: subprocess.Popen[bytes]) -> None:
        self.folder, self.ports, self.process = folder, ports, process
        deployment = one([resource for _, resource in written()], "Deployment")
        self.spec = deployment["spec"]["template"]["spec"]["containers"][0]

    @property
    def url(self) -> str:
        return f"localhost:{self.ports['grpc']}"

    def access(self, name: str = "caller", token: str = "") -> Access:
        return Access(self.folder / "ca.crt", self.folder / f"{name}.crt", self.folder / f"{name}.key", token)

    def asked(self, method: str, path: str, headers: dict[str, str] | None = None) -> int:
        connection = HTTPConnection("127.0.0.1", self.ports["http"], timeout=5)
        try:
            connection.request(method, path, "{}" if method == "POST" else None, headers or {})
            return connection.getresponse().status
        finally:
            connection.close()

    def probe(self, kind: str) -> int:
        """Ask as the kubelet would, after the model's own name."""
        return self.asked("GET", self.spec[kind]["httpGet"]["path"].replace("sentiment", MODEL))


@pytest.fixture(scope="module")
def pod(published_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    try:
        triton = find_triton()
    except ServerError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("pod")
    lay_out(folder, triton)
    make_certificates(folder)
    ports = dict(zip(PORTS, free_ports(3), strict=True))
    command = [str(triton.server), *arguments(folder, published_repository, ports)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment(folder, triton), stdout=log, stderr=log)
    pod = Pod(folder, ports, process)
    try:
        wait_until_ready(pod)
        yield pod
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def arguments(folder: Path, repository: Path, ports: dict[str, int]) -> list[str]:
    """Return the Deployment's arguments, with this machine's folders, ports and backend in the places of a pod's."""
    (container,) = one([item for _, item in written()], "Deployment")["spec"]["template"]["spec"]["containers"]
    places = {"/models": str(repository), "/tls/": f"{folder}/", "$(PIPELINE_TOKEN)": TOKEN, "0.0.0.0": "127.0.0.1"}  # noqa: S104
    given = []
    for argument in container["args"]:
        if argument.partition("=")[0] in NEWER_THAN_THE_WHEEL:
            continue
        for place, ours in (*places.items(), ("=sentiment", f"={MODEL}")):
            argument = argument.replace(place, ours)
        given.append(argument)
    here = [f"--{name}-port={port}" for name, port in ports.items()]
    return [*given, *here, f"--backend-directory={folder / 'backends'}", "--allow-gpu-metrics=false"]


def wait_until_ready(pod: Pod) -> None:
    deadline = time.monotonic() + READY_WITHIN_SECONDS
    while True:
        try:
            if pod.probe("readinessProbe") == 200:
                return
        except OSError:
            pass
        log = (pod.folder / "log").read_text(errors="replace")[-2000:]
        assert pod.process.poll() is None, log
        assert time.monotonic() < deadline, log
        time.sleep(0.1)


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in listeners]


def make_certificates(folder: Path) -> None:
    """Make an authority with a server's and a caller's certificate, and a stranger who signed for himself."""
    authority = certify(folder, "ca", None)
    certify(folder, "tls", authority)
    certify(folder, "caller", authority)
    certify(folder, "stranger", None)


Signer = tuple[x509.Name, ec.EllipticCurvePrivateKey]


def certify(folder: Path, name: str, signer: Signer | None) -> Signer:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    issuer, signing_key = signer or (subject, key)
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(signing_key, hashes.SHA256())
    )
    encoding, no_password = serialization.Encoding.PEM, serialization.NoEncryption()
    (folder / f"{name}.crt").write_bytes(certificate.public_bytes(encoding))
    (folder / f"{name}.key").write_bytes(key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, no_password))
    return subject, key


@pytest.mark.parametrize("kind", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_the_probes_need_neither_certificate_nor_token(pod: Pod, kind: str) -> None:
    assert pod.probe(kind) == 200


def test_readiness_is_of_the_model(pod: Pod) -> None:
    path = pod.spec["readinessProbe"]["httpGet"]["path"]
    assert pod.asked("GET", path.replace("sentiment", "waves")) == 400


FORBIDDEN = [
    ("POST", f"/v2/models/{MODEL}/infer"),
    ("GET", f"/v2/models/{MODEL}/config"),
    ("GET", f"/v2/models/{MODEL}"),
    ("GET", "/v2/models/stats"),
    ("POST", "/v2/repository/index"),
    ("POST", f"/v2/repository/models/{MODEL}/unload"),
    ("GET", "/v2/systemsharedmemory/status"),
    ("GET", "/v2/trace/setting"),
    ("POST", "/v2/logging"),
]


@pytest.mark.parametrize(("method", "path"), FORBIDDEN)
def test_http_without_the_token_tells_nothing_but_health(pod: Pod, method: str, path: str) -> None:
    assert pod.asked(method, path) == 403
    assert pod.asked(method, path, {"pipeline-token": "wrong"}) == 403
    assert pod.probe("livenessProbe") == 200


def test_a_caller_with_a_certificate_is_answered(pod: Pod) -> None:
    with Client(pod.url, MODEL, access=pod.access()) as client:
        (prediction,) = client.classify(["the film is lovely"])
    assert prediction.valid
    assert prediction.label in prediction.probabilities


def without_tls(pod: Pod) -> Access:
    return Access()


def without_certificate(pod: Pod) -> Access:
    return Access(ca=pod.folder / "ca.crt")


def with_another_authority(pod: Pod) -> Access:
    return pod.access("stranger", TOKEN)


@pytest.mark.parametrize("access_of", [without_tls, without_certificate, with_another_authority])
def test_a_caller_without_a_good_certificate_reaches_nothing(pod: Pod, access_of) -> None:
    with Control(pod.url, access_of(pod)) as control, pytest.raises(PipelineError):
        control.ask(MODEL, timeout_seconds=5)
    channel = access_of(pod).channel(pod.url)
    with channel, pytest.raises(grpc.FutureTimeoutError):
        grpc.channel_ready_future(channel).result(timeout=2)


def test_a_certificate_is_not_enough_to_load_or_unload_or_read_statistics(pod: Pod) -> None:
    with Control(pod.url, pod.access()) as control:
        for order in (control.versions, lambda: control.unload(MODEL, 5), lambda: control.answered(MODEL)):
            with pytest.raises(RequestError, match="wants a token"):
                order()
    assert pod.probe("readinessProbe") == 200


def test_with_certificate_and_token_models_are_listed_and_counted(pod: Pod) -> None:
    with Control(pod.url, pod.access(token=TOKEN)) as control:
        assert control.versions() == {MODEL: (1,)}
        control.ask(MODEL, timeout_seconds=5)
        assert control.answered(MODEL) >= 1


def test_a_pod_that_is_told_to_end_ends_well_within_its_grace(pod: Pod) -> None:
    begun = time.monotonic()
    os.kill(pod.process.pid, signal.SIGTERM)
    assert pod.process.wait(timeout=30) == 0
    assert time.monotonic() - begun < 30
