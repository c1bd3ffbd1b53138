"""Until when the server's certificate is good."""

import socket
import ssl
from urllib.parse import urlsplit

from pipeline.client import Access


def expiry(url: str, access: Access, timeout_seconds: float) -> float | None:
    """Return when the certificate that a server shows ends, in seconds since 1970; None when it shows none.

    Args:
        url: host and port.
        access: how the server is reached.
        timeout_seconds: how long connecting may take.
    """
    if not access.is_secure:
        return None
    address = urlsplit(f"//{url}")
    try:
        context = ssl.create_default_context(cafile=access.ca)
        if access.certificate:
            context.load_cert_chain(access.certificate, access.key)
        with (
            socket.create_connection((address.hostname, address.port), timeout_seconds) as connection,
            context.wrap_socket(connection, server_hostname=address.hostname) as secured,
        ):
            shown = secured.getpeercert() or {}
            return float(ssl.cert_time_to_seconds(str(shown["notAfter"])))
    except (OSError, KeyError, ValueError):  # the round's questions have failed for the same reason, and say it
        return None
