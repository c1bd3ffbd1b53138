"""A Triton as in production: nobody watches over it, it loads only what it is told to, and only by its token."""

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.client import Access
from pipeline.serve.layout import Options, command_line, environment, lay_out
from pipeline.serve.network import choose_ports, is_listening
from pipeline.serve.process import started
from pipeline.triton import find_triton
from tests.serve.asking import eventually

TOKEN = "a-secret"  # noqa: S105
RESTRICTED = "model-repository,model-config,statistics"


@dataclass(frozen=True)
class Explicit:
    """A running server.

    Attributes:
        grpc_url: host and port for gRPC.
        metrics_url: where Prometheus reads.
        access: what its administrator shows.
        pid: its process.
    """

    grpc_url: str
    metrics_url: str
    access: Access
    pid: int


@contextmanager
def explicit(repository: Path, *models: str, port: int = 0, restricted: str = RESTRICTED) -> Iterator[Explicit]:
    """Run one on a free port of loopback or on a given one, some models loaded; what is restricted wants a token."""
    triton = find_triton()
    options = choose_ports(Options(repository, grpc_port=port, http_port=0, metrics_port=0))
    name = f"pipeline-{os.getpid()}-{secrets.token_hex(4)}-"
    with tempfile.TemporaryDirectory(prefix=name) as path:
        folder = Path(path)
        lay_out(folder, triton)
        command = [
            *command_line(folder, triton, options, models, name),
            f"--grpc-restricted-protocol={restricted}:pipeline-token={TOKEN}",
        ]
        with started(command, environment(folder, triton), folder, name, lambda _: None) as process:
            ports = (options.grpc_port, options.metrics_port)
            eventually(lambda: all(is_listening("127.0.0.1", port) for port in ports), 30)
            urls = (f"127.0.0.1:{port}" for port in ports)
            yield Explicit(*urls, Access(token=TOKEN), process.pid)
