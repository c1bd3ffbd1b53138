"""Tokens and TLS: a real Triton with restricted protocols, and one behind a relay that ends TLS for it."""

import asyncio
import ssl
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from pipeline.client import Access, AsyncClient, Client
from pipeline.client.control import Control
from pipeline.client.over_http import HttpClient
from pipeline.errors import RequestError, ServerError, UsageError
from pipeline.verify.named import Engines
from tests.client.certificates import Authority
from tests.client.conftest import SECRET
from tests.client.relay import Relay

ADDRESS = "127.0.0.1"


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ours"), "ours")


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("others"), "others")


def tls(certificate, wanted=None, protocol="h2"):
    """The server side of TLS, which with `wanted` lets only callers in whose certificate that authority signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.path, certificate.key)
    context.set_alpn_protocols([protocol])
    if wanted:
        context.load_verify_locations(wanted.path)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def labels(kind, url, access):
    """Classify with a client of either kind."""

    async def ask():
        async with AsyncClient(url, "tiny", access=access) as client:
            return [prediction.label for prediction in await client.classify(["good", "awful"])]

    if kind is AsyncClient:
        return asyncio.run(ask())
    client = kind(url, "tiny", access=access)
    try:
        return [prediction.label for prediction in client.classify(["good", "awful"])]
    finally:
        client.close()


both = pytest.mark.parametrize("kind", [Client, AsyncClient])


def url_of(kind, options):
    return f"{ADDRESS}:{options.http_port if kind is HttpClient else options.grpc_port}"


@pytest.mark.parametrize("kind", [Client, AsyncClient, HttpClient])
def test_the_token_opens_a_restricted_server(kind, restricted):
    assert len(labels(kind, url_of(kind, restricted), Access(token=SECRET))) == 2


@pytest.mark.parametrize("kind", [Client, AsyncClient, HttpClient])
@pytest.mark.parametrize("token", ["", "a wrong one"])
def test_without_the_right_token_the_error_asks_for_it(kind, token, restricted):
    url = url_of(kind, restricted)
    with pytest.raises(ServerError) as caught:
        labels(kind, url, Access(token=token))
    assert str(caught.value) == f"{url}: the server wants a token, or another one. Set PIPELINE_TOKEN."


def test_the_token_is_never_shown():
    assert SECRET not in repr(Client(access=Access(token=SECRET)))


@pytest.mark.parametrize("token", ["a secret with a line break\n", "a secret beyond ASCII: é"])
def test_a_token_that_no_header_carries_is_refused_and_not_shown(token):
    with pytest.raises(UsageError, match="Correct PIPELINE_TOKEN") as caught:
        Access(token=token)
    assert token not in str(caught.value)


def test_a_wrong_token_is_not_tried_again(restricted):
    with Client(url_of(Client, restricted), "tiny") as client:
        with pytest.raises(ServerError, match="wants a token"):
            client.contract()
        assert client.counters.retries == 0


def test_control_asks_for_the_token_too(restricted):
    url = url_of(Client, restricted)
    with Control(url) as control, pytest.raises(RequestError, match="^the server wants a token"):
        control.versions()
    with Control(url, Access(token=SECRET)) as control:
        assert control.versions() == {"tiny": (1,)}


@both
def test_a_server_is_known_by_its_certificate(kind, server, ours):
    with Relay(server.grpc_url, tls(ours.sign("server", ADDRESS))) as relay:
        assert labels(kind, relay.url, Access(ca=ours.path)) == labels(kind, server.grpc_url, Access())


@both
def test_a_caller_is_known_by_its_certificate(kind, server, ours):
    caller = ours.sign("caller", "caller")
    with Relay(server.grpc_url, tls(ours.sign("server", ADDRESS), wanted=ours)) as relay:
        assert len(labels(kind, relay.url, Access(ours.path, caller.path, caller.key))) == 2


@pytest.mark.parametrize(("kind", "protocol"), [(Client, "h2"), (HttpClient, "http/1.1")])
def test_a_server_behind_a_tunnel_is_known_by_the_name_in_its_certificate(kind, protocol, server, ours):
    url = server.http_url if kind is HttpClient else server.grpc_url
    with Relay(url, tls(ours.sign("server", "triton.example"), protocol=protocol)) as relay:
        assert len(labels(kind, relay.url, Access(ca=ours.path, server_name="triton.example"))) == 2


SERVERS = {
    "expired": "the server's certificate has expired. Give the server a new one.",
    "another authority": "another authority signed the server's certificate. Correct `ca`.",
    "another host": (
        "the server's certificate is for another host name. Use that name as the address, or as `server_name`."
    ),
}


def faulty(fault, ours, others):
    """The certificate of a server, with one fault."""
    lasts = timedelta(days=-1 if fault == "expired" else 1)
    host = "triton.example" if fault == "another host" else ADDRESS
    return (others if fault == "another authority" else ours).sign("faulty", host, lasts)


@both
@pytest.mark.parametrize("fault", SERVERS)
def test_a_server_that_cannot_be_trusted_is_told_what_is_wrong_with(kind, fault, server, ours, others):
    with Relay(server.grpc_url, tls(faulty(fault, ours, others))) as relay:
        with pytest.raises(ServerError) as caught:
            labels(kind, relay.url, Access(ca=ours.path))
        assert str(caught.value) == f"{relay.url}: {SERVERS[fault]}"


@pytest.mark.parametrize("fault", ["none", "expired", "another authority"])
def test_a_caller_that_is_not_let_in_is_told_that_a_certificate_may_be_why(fault, server, ours, others):
    access, words = Access(ca=ours.path), "a client certificate"
    if fault != "none":
        lasts = timedelta(days=-1 if fault == "expired" else 1)
        caller = (others if fault == "another authority" else ours).sign("refused", "caller", lasts)
        access, words = Access(ours.path, caller.path, caller.key), "another client certificate"
    relay = Relay(server.grpc_url, tls(ours.sign("server", ADDRESS), wanted=ours))
    with relay, pytest.raises(ServerError, match=f"Or it wants {words}: give `certificate` and `key`"):
        labels(Client, relay.url, access)


def test_tls_where_there_is_none_and_none_where_there_is_are_told(server, ours):
    with pytest.raises(ServerError, match="does not speak TLS on this port"):
        labels(Client, server.grpc_url, Access(ca=ours.path))
    relay = Relay(server.grpc_url, tls(ours.sign("server", ADDRESS)))
    with relay, pytest.raises(ServerError, match="Or it wants TLS: give `ca`"):
        labels(Client, relay.url, Access())


def test_http_goes_through_tls_and_shows_a_certificate_too(server, ours):
    caller = ours.sign("caller", "caller")
    with Relay(server.http_url, tls(ours.sign("server", ADDRESS), wanted=ours, protocol="http/1.1")) as relay:
        access = Access(ours.path, caller.path, caller.key)
        assert labels(HttpClient, relay.url, access) == labels(Client, server.grpc_url, Access())
        with pytest.raises(ServerError, match=f"^{relay.url}: .*(certificate|closed|EOF|reset)"):
            labels(HttpClient, relay.url, Access(ca=ours.path))


@pytest.mark.parametrize("fault", SERVERS)
def test_http_is_told_what_is_wrong_with_a_server(fault, server, ours, others):
    with Relay(server.http_url, tls(faulty(fault, ours, others), protocol="http/1.1")) as relay:
        with pytest.raises(ServerError) as caught:
            labels(HttpClient, relay.url, Access(ca=ours.path))
        assert str(caught.value) == f"{relay.url}: {SERVERS[fault]}"


@pytest.mark.parametrize("kind", [Client, HttpClient])
def test_files_that_are_none_are_named_before_anything_is_sent(kind, tmp_path, ours):
    nonsense, caller, stranger = tmp_path / "nonsense.pem", ours.sign("caller", "c"), ours.sign("stranger", "s")
    nonsense.write_text("nonsense")
    for access, message in (
        (Access(ca=nonsense), f"{nonsense}: not PEM"),
        (Access(ca=tmp_path / "missing"), "missing: cannot be read: No such file"),
        (Access(ours.path, caller.path), "go together"),
        (Access(ours.path, caller.path, stranger.key), "KEY_VALUES_MISMATCH"),
        (Access(ours.path, nonsense, caller.key), "not PEM"),
        (Access(ours.path, caller.path, locked(caller.key)), "not PEM"),
    ):
        with pytest.raises(UsageError, match=message):
            labels(kind, f"{ADDRESS}:1", access)


def locked(key):
    """Encrypt a private key; OpenSSL would ask a person at the terminal for the password."""
    path, form = key.with_suffix(".locked"), serialization.PrivateFormat.PKCS8
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    password = serialization.BestAvailableEncryption(b"a password")
    path.write_bytes(private.private_bytes(serialization.Encoding.PEM, form, password))
    return path


def test_verify_reaches_an_endpoint_behind_tls(server, ours):
    caller = ours.sign("caller", "caller")
    access = Access(ours.path, caller.path, caller.key)
    for scheme, url, protocol in (("grpc", server.grpc_url, "h2"), ("http", server.http_url, "http/1.1")):
        with Relay(url, tls(ours.sign("server", ADDRESS), wanted=ours, protocol=protocol)) as relay:
            engines = Engines(Path("no model is opened"), None, "tiny", access)
            with engines:
                answers = engines.named(f"{scheme}://{relay.url}").answer(["good", "awful"])
            assert answers.labels == labels(Client, server.grpc_url, Access())
