"""A server that answers at once, whatever it is asked: what the HTTP client can ask a second at most."""

import asyncio
import sys

import uvloop

_ANSWER = b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\nContent-Type: application/json\r\n\r\n{"labels":[""]}'


class AtOnce(asyncio.Protocol):
    """One connection, a small request at a time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        self._transport = transport
        self._read = bytearray()

    def data_received(self, data: bytes) -> None:
        """Answer once the JSON is whole."""
        self._read += data
        if self._read.endswith(b"]}"):
            self._read.clear()
            self._transport.write(_ANSWER)


async def serve(port: int) -> None:
    """Serve until the process is ended."""
    server = await asyncio.get_running_loop().create_server(AtOnce, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
