"""A TCP relay in front of a server, which can end TLS for it and hang up on everybody."""

import contextlib
import socket
import ssl
from threading import Lock, Thread
from typing import Self


class Relay:
    """A relay on a free port of loopback.

    Args:
        target: host and port of the server.
        context: the server side of TLS, for a server that speaks none itself.

    Attributes:
        accepted: how many connections were made.
        sent: how many bytes went either way.
    """

    def __init__(self, target: str, context: ssl.SSLContext | None = None) -> None:
        host, _, port = target.rpartition(":")
        self._target, self._context = (host, int(port)), context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads: list[Thread] = []
        self._lock = Lock()
        self.accepted = self.sent = 0
        self._spawn(self._accept)

    @property
    def url(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join()

    def cut(self) -> None:
        """Hang up on everybody."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            _hang_up(*pair)

    def _spawn(self, target, *arguments) -> None:
        thread = Thread(target=target, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = self._listener.accept()
                self.accepted += 1
                self._spawn(self._join, caller)

    def _join(self, caller: socket.socket) -> None:
        try:
            if self._context:
                caller.settimeout(10)
                caller = self._context.wrap_socket(caller, server_side=True)
                caller.settimeout(None)
            server = socket.create_connection(self._target)
        except OSError:
            caller.close()
            return
        with self._lock:
            self._pairs.append((caller, server))
        self._spawn(self._copy, caller, server)
        self._spawn(self._copy, server, caller)

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while content := source.recv(1 << 16):
                self.sent += len(content)
                sink.sendall(content)
        _hang_up(source, sink)


def _hang_up(*sockets: socket.socket) -> None:
    for one in sockets:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
