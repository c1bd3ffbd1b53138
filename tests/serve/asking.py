"""Ask a server, and look at what it left on this machine."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton

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


def shared_memory(pid: int | None = None) -> set[str]:
    """Our servers' regions in /dev/shm: of this process, or of the given supervisor."""
    return {path.name for path in SHARED_MEMORY.glob(f"pipeline-{pid or os.getpid()}-*")}


def _parent(path: Path) -> int:
    try:
        return int((path / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
