"""How a server is reached: what protects the way to it, and what shows who asks."""

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from pipeline.errors import UsageError

MESSAGE_BYTES = 64 << 20  # the most that one gRPC message may carry, either way
TOKEN_KEY = "pipeline-token"  # noqa: S105  the name under which Triton is given its secret, not the secret
_TOKEN_HEADER = f"triton-grpc-protocol-{TOKEN_KEY}"
_CHANNEL_OPTIONS = [
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.enable_http_proxy", 0),  # a proxy meant for the web would otherwise swallow even loopback calls
    ("grpc.use_local_subchannel_pool", 1),  # a new connection does not inherit an earlier one's back-off
    ("grpc.initial_reconnect_backoff_ms", 100),  # a server that starts again is found again soon
    ("grpc.max_reconnect_backoff_ms", 2000),
]
_OTHER_HOST = "the server's certificate is for another host name. Use that name as the address, or as `server_name`"
_FAULTS = {  # what gRPC and Python say of a connection that TLS refused, and Triton or a gateway of a caller
    "certificate has expired": "the server's certificate has expired. Give the server a new one",
    "certificate is not yet valid": "the server's certificate is not valid yet. Compare the clocks",
    "certificate is not valid for": _OTHER_HOST,
    "Hostname Verification Check failed": _OTHER_HOST,
    "CERTIFICATE_VERIFY_FAILED": "another authority signed the server's certificate. Correct `ca`",
    "CERTIFICATE_REQUIRED": "the server wants a client certificate. Give `certificate` and `key`",
    "WRONG_VERSION_NUMBER": "the server does not speak TLS on this port. Leave out the certificates, or correct it",
    "expecting header": "the server wants a token, or another one. Set PIPELINE_TOKEN",
    "UNAUTHENTICATED": "the server wants a token or a certificate, or another one. Set PIPELINE_TOKEN, or correct them",
    "PERMISSION_DENIED": "this token or certificate may not do that. Use one that may",
}
_HUNG_UP = ("Socket closed", "Connection reset", "Broken pipe", "Unwrap failed")


@dataclass(frozen=True)
class Access:
    """What a caller shows, and wants to be shown.

    Attributes:
        ca: certificates (PEM) of the authority that signed the server's; with any of these three, TLS is used.
        certificate: the caller's own certificate (PEM), for a server that wants one.
        key: the private key (PEM) of that certificate.
        token: the secret of Triton's restricted protocols; empty for none.
        server_name: the host name in the server's certificate, where it is reached by another, as through a tunnel.

    Raises:
        UsageError: the token holds what no header can carry, such as a line break.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    token: str = field(default="", repr=False)
    server_name: str = ""

    def __post_init__(self) -> None:
        if not (self.token.isascii() and self.token.isprintable()):
            raise UsageError("token: wanted printable ASCII without line breaks. Correct PIPELINE_TOKEN.")

    @property
    def is_secure(self) -> bool:
        """Whether TLS is used."""
        return bool(self.ca or self.certificate or self.key)

    @property
    def metadata(self) -> list[tuple[str, str]]:
        """What every gRPC call carries."""
        return [(_TOKEN_HEADER, self.token)] if self.token else []

    @property
    def headers(self) -> dict[str, str]:
        """What every HTTP request carries, for a Triton with ``--http-restricted-api=…:pipeline-token=SECRET``."""
        return {TOKEN_KEY: self.token} if self.token else {}

    def channel(self, url: str, module: Any = grpc) -> Any:
        """Open a channel; nothing is sent yet.

        Args:
            url: host and port.
            module: `grpc`, or `grpc.aio` for a channel that is awaited.

        Raises:
            UsageError: a file cannot be read, is no PEM file, or a certificate comes without its key.
        """
        if not self.is_secure:
            return module.insecure_channel(url, options=_CHANNEL_OPTIONS)
        self.context()  # gRPC would say what is wrong with the files in a log, and not before the first call
        named = [("grpc.ssl_target_name_override", self.server_name)] if self.server_name else []
        credentials = grpc.ssl_channel_credentials(*(_read(path) for path in (self.ca, self.key, self.certificate)))
        return module.secure_channel(url, credentials, options=[*_CHANNEL_OPTIONS, *named])

    def context(self) -> ssl.SSLContext:
        """Return the files as Python's own TLS takes them; raises as `channel` does."""
        if bool(self.certificate) != bool(self.key):
            raise UsageError("a client certificate and its private key go together: give both, or neither.")
        for path in (self.ca, self.certificate, self.key):
            _read(path)
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.certificate:
                context.load_cert_chain(self.certificate, self.key, password="")  # a locked key fails; nobody is asked
        except ssl.SSLError as error:
            files = ", ".join(str(path) for path in (self.ca, self.certificate, self.key) if path)
            raise UsageError(
                f"{files}: not PEM files of certificates and the key of the caller's ({error.reason or error})."
            ) from error
        return context

    def hint(self, error: Any) -> str:
        """Return why a server may have hung up on a `grpc.RpcError`, which TLS does without a reason; mostly empty."""
        if not any(mark in said(error) for mark in _HUNG_UP):
            return ""
        if not self.is_secure:
            return " Or it wants TLS: give `ca`."
        wanted = "another client certificate" if self.certificate else "a client certificate"
        return f" Or it wants {wanted}: give `certificate` and `key`."


def fault(said: str) -> str:
    """Return which certificate or token an error is about, and what to do; empty when it is about none."""
    return next((words for mark, words in _FAULTS.items() if mark in said), "")


def said(error: Any) -> str:
    """Return the code and the words of a `grpc.RpcError`."""
    return f"{error.code().name} {error.details()}"


def _read(path: Path | None) -> bytes | None:
    try:
        return path.read_bytes() if path else None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}.") from error
