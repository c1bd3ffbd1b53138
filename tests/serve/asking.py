"""Start a server, ask it, and look at what it is and leaves on this machine."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton

from pipeline.serve import Server

Answer = dict[str, np.ndarray]
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108


def ask(
    client: triton.InferenceServerClient, model: str, outputs: tuple[str, ...] = (), **inputs: np.ndarray
) -> Answer:
    """Send one request and return the outputs that came back."""
    types = {"O": "BYTES", "f": "FP32", "i": "INT64"}
    tensors = []
    for name, array in inputs.items():
        tensors.append(triton.InferInput(name, list(array.shape), types[array.dtype.kind]))
        tensors[-1].set_data_from_numpy(array)
    result = client.infer(model, tensors, outputs=[triton.InferRequestedOutput(name) for name in outputs] or None)
    return {tensor.name: result.as_numpy(tensor.name) for tensor in result.get_response().outputs}


def column(*texts: bytes) -> np.ndarray:
    """Texts as the (B, 1) array that a client sends."""
    return np.array(texts, dtype=object)[:, None]


def eventually(condition: Callable[[], object], seconds: float = 10) -> float:
    """Wait until a condition holds; return how long it took."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds, "it did not happen in time"
        time.sleep(0.02)
    return time.monotonic() - begun


@contextmanager
def serving(repository: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any], Path]]:
    """Run `pipeline serve` on free ports until the block ends; yield it with its ready record."""
    ready_file = repository.parent / "ready.json"
    ports = [word for service in ("http", "grpc", "metrics") for word in (f"--{service}-port", "0")]
    command = [
        sys.executable,
        "-m",
        "pipeline",
        "serve",
        str(repository),
        *ports,
        "--ready-file",
        str(ready_file),
        *options,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        eventually(lambda: ready_file.exists() or process.poll() is not None, 30)
        assert ready_file.exists(), process.communicate()[1]
        yield process, json.loads(ready_file.read_text()), ready_file
    finally:
        process.kill()
        process.communicate()


def answers(server: Server) -> bool:
    try:
        with triton.InferenceServerClient(
            server.grpc_url, channel_args=[("grpc.use_local_subchannel_pool", 1)]
        ) as client:
            return bool(ask(client, "words", text=column(b"good")))
    except triton.InferenceServerException:
        return False


def last(server: Server, kind: type) -> Any:
    return next((event for event in reversed(server.events) if isinstance(event, kind)), None)


def stubs_of(pid: int) -> list[int]:
    """The processes that Triton started: one for each model instance."""
    return [int(path.name) for path in Path("/proc").glob("[0-9]*") if _parent(path) == pid]


def is_alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def processor_seconds(pid: int) -> float:
    """The processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def held_bytes(*pids: int) -> int:
    """The memory of processes and their children; a page that several share is divided among them."""
    families = {member for pid in pids for member in (pid, *stubs_of(pid))}
    rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in families]
    return 1024 * sum(int(line.split()[1]) for text in rollups for line in text.splitlines() if line.startswith("Pss:"))


def open_files(*pids: int) -> dict[int, int]:
    """How many descriptors each process has open."""
    return {pid: len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids}


def settled_files(*pids: int) -> dict[int, int]:
    """The same once nothing has changed for a second: a connection that was hung up lingers for a moment."""
    files = open_files(*pids)
    for _ in range(30):
        time.sleep(1)
        before, files = files, open_files(*pids)
        if files == before:
            break
    return files


def shared_memory(pid: int | None = None) -> set[str]:
    """Our servers' regions in /dev/shm: of this process, or of the given supervisor."""
    return {path.name for path in SHARED_MEMORY.glob(f"pipeline-{pid or os.getpid()}-*")}


def _parent(path: Path) -> int:
    try:
        return int((path / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
