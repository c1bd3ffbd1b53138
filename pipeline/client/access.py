"""How a server is reached: what protects the way to it, and what shows who asks."""

from dataclasses import dataclass
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
]


@dataclass(frozen=True)
class Access:
    """What a caller shows, and wants to be shown.

    Attributes:
        ca: certificates (PEM) of the authority that signed the server's; with any of these three, TLS is used.
        certificate: the caller's own certificate (PEM), for a server that wants one.
        key: the private key (PEM) of that certificate.
        token: the secret of Triton's restricted protocols; empty for none.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    token: str = ""

    @property
    def is_secure(self) -> bool:
        """Whether TLS is used."""
        return bool(self.ca or self.certificate or self.key)

    @property
    def metadata(self) -> list[tuple[str, str]]:
        """What every call carries."""
        return [(_TOKEN_HEADER, self.token)] if self.token else []

    def channel(self, url: str, module: Any = grpc) -> Any:
        """Open a channel; nothing is sent yet.

        Args:
            url: host and port.
            module: `grpc`, or `grpc.aio` for a channel that is awaited.

        Raises:
            UsageError: a file cannot be read, or a certificate comes without its key.
        """
        if not self.is_secure:
            return module.insecure_channel(url, options=_CHANNEL_OPTIONS)
        if bool(self.certificate) != bool(self.key):
            raise UsageError("a client certificate and its private key go together: give both, or neither.")
        credentials = grpc.ssl_channel_credentials(_read(self.ca), _read(self.key), _read(self.certificate))
        return module.secure_channel(url, credentials, options=_CHANNEL_OPTIONS)


def _read(path: Path | None) -> bytes | None:
    try:
        return path.read_bytes() if path else None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}.") from error
