"""Requests over HTTP/1.1 that lie ready as bytes, over connections that are kept: what a lean client costs.

Python's own client parses each answer's head as if it were a letter, which takes it longer than some models take.
"""

import socket
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from pipeline.errors import ServerError

_HEAD_END = b"\r\n\r\n"
_BLOCK_BYTES = 1 << 16


@dataclass(frozen=True)
class Reply:
    """An answer: its status, headers by their names in small letters, and body."""

    status: int
    headers: dict[str, str]
    body: bytes


def post(path: str, body: bytes, headers: dict[str, str]) -> bytes:
    """Return a POST request as it goes over the wire."""
    lines = {"Host": "localhost", "Content-Length": str(len(body)), **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body


class HttpCalls:
    """One server, asked over as many kept connections as there are threads that ask.

    Args:
        url: host and port.
        context: for TLS; None for none.
        server_name: the name in the server's certificate, where it is another than the host.
        connections: the most that `send` uses at once; further requests wait for one.
        timeout_seconds: the longest that the server may be silent.
    """

    def __init__(
        self,
        url: str,
        context: ssl.SSLContext | None = None,
        server_name: str = "",
        connections: int = 64,
        timeout_seconds: float = 60.0,
    ) -> None:
        host, _, port = url.rpartition(":")
        self._address = host.strip("[]"), int(port)
        self._context, self._server_name, self._timeout_seconds = context, server_name, timeout_seconds
        self._pool = ThreadPoolExecutor(connections, thread_name_prefix="bench-http")
        self._own = threading.local()
        self._open: set[socket.socket] = set()

    def answer(self, content: bytes) -> Reply:
        """Send a request over this thread's connection, and wait.

        Raises:
            ServerError: the server cannot be reached, hangs up, says nothing for too long, or what is not understood.
        """
        try:
            if (kept := getattr(self._own, "socket", None)) is not None:
                with suppress(ConnectionError):  # it may have hung up on a connection that was idle
                    return _exchange(kept, content)
                self._hang_up()
            self._own.socket = self._connected()
            return _exchange(self._own.socket, content)
        except (OSError, ValueError) as error:
            self._hang_up()
            raise ServerError(
                f"{self._address[0]}:{self._address[1]}: {str(error) or type(error).__name__}."
            ) from error

    def send(self, content: bytes, done: Callable[[Reply | Exception], None]) -> None:
        """Send a request; `done` is called from another thread with the answer, or with what went wrong."""
        self._pool.submit(self._answer_to, content, done)

    def close(self) -> None:
        """Hang up; nothing may be on its way any more."""
        self._pool.shutdown()
        while self._open:
            self._open.pop().close()

    def _answer_to(self, content: bytes, done: Callable[[Reply | Exception], None]) -> None:
        try:
            reply: Reply | Exception = self.answer(content)
        except Exception as error:  # noqa: BLE001  whatever it is, somebody waits for it
            reply = error
        done(reply)

    def _connected(self) -> socket.socket:
        connection = socket.create_connection(self._address, self._timeout_seconds)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._context:
            name = self._server_name or self._address[0]
            connection = self._context.wrap_socket(connection, server_hostname=name)
        self._open.add(connection)
        return connection

    def _hang_up(self) -> None:
        """Close this thread's connection, if it has one."""
        if (connection := self._own.__dict__.pop("socket", None)) is not None:
            self._open.discard(connection)
            connection.close()


def _exchange(connection: socket.socket, content: bytes) -> Reply:
    connection.sendall(content)
    received = bytearray()
    while (end := received.find(_HEAD_END)) < 0:
        received += _more(connection)
    first, *lines = received[:end].decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if "content-length" not in headers:
        raise ValueError(f"{first}: an answer without Content-Length, which this client does not read")
    size = end + len(_HEAD_END) + int(headers["content-length"])
    while len(received) < size:
        received += _more(connection)
    return Reply(int(first.split()[1]), headers, bytes(received[end + len(_HEAD_END) :]))


def _more(connection: socket.socket) -> bytes:
    block = connection.recv(_BLOCK_BYTES)
    if not block:
        raise ConnectionResetError("the server hung up")
    return block
