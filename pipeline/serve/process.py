"""One ``tritonserver`` process: started so that it cannot outlive us, its log read, stopped without a trace."""

import os
import re
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

from pipeline.serve.layout import EXIT_TIMEOUT_SECONDS, SHARED_MEMORY

# Asks the kernel to kill Triton when the thread that started it ends, then becomes Triton. Not a `preexec_fn`: that
# would run Python code between fork and exec, which is unsafe beside gRPC's threads. The stacks are large because 24.10
# lays the pieces of an HTTP request on one, and descends into its JSON, without a limit: on the usual 8 MiB, half a
# million pieces or lists nested a hundred thousand deep end the server.
STACK_BYTES = 256 << 20
LAUNCHER = f"""
import ctypes, os, resource, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
_, most = resource.getrlimit(resource.RLIMIT_STACK)
wanted = {STACK_BYTES} if most == resource.RLIM_INFINITY else min({STACK_BYTES}, most)
resource.setrlimit(resource.RLIMIT_STACK, (wanted, most))
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""
LOG_LINE = re.compile(r"^ ?(?P<level>[IWE])\d{4} [\d:.]+ \d+ [\w.]+:\d+\] +(?P<text>.+)$")
NOT_ERRORS = ("CudaDriverHelper has not been initialized",)


class ServerLost(Exception):
    """The server ended, or answers no more."""


class TooMuchMemory(ServerLost):
    """The server answers still, and holds more than it may."""


class Process:
    """A running ``tritonserver`` and what it last complained of.

    It must be started by a thread that lives as long as it does.
    """

    def __init__(
        self, command: list[str], environment: Mapping[str, str], folder: Path, log: Callable[[str], None]
    ) -> None:
        launcher = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(os.getpid())]
        self._process = subprocess.Popen(
            [*launcher, *command],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us alone; and the stubs share one group
            text=True,
            errors="replace",
        )
        self._log = log
        self._lines: deque[str] = deque(maxlen=200)
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process number of Triton, which is also its group's."""
        return self._process.pid

    def check(self) -> None:
        """Return while the process lives.

        Raises:
            ServerLost: it ended; the message says how, with its last error.
        """
        code = self._process.poll()
        if code is not None:
            self._reader.join(timeout=1)
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
            raise ServerLost(f"Triton {how}" + (f"; its last error: {self.last_error}" if self.last_error else ""))

    @property
    def last_error(self) -> str:
        """The last error that Triton logged, or else the last line of another program, such as the dynamic loader."""
        others = [line for line in tuple(self._lines) if line.strip() and not LOG_LINE.match(line)]
        return (self._errors() or others or [""])[-1].strip()

    def error_about(self, model: str) -> str:
        """Return the last error that Triton logged about a model; empty when there is none."""
        return ([text for text in self._errors() if f"'{model}'" in text] or [""])[-1]

    def dead_stubs(self) -> set[int]:
        """Return the stubs that ended without Triton having noticed; one that it stopped itself is soon gone."""
        return {pid for pid, state, parent in _processes() if parent == self.pid and state == "Z"}

    def memory_bytes(self) -> int:
        """Return what Triton and its stubs hold in memory."""
        return memory_bytes(self.pid)

    def stop(self) -> None:
        """Let Triton finish what it is answering; kill it when it takes too long."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(EXIT_TIMEOUT_SECONDS + 5)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self.kill()

    def kill(self) -> None:
        """Kill what is left of Triton and its stubs."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(timeout=5)

    def _errors(self) -> list[str]:
        logged = [match for line in tuple(self._lines) if (match := LOG_LINE.match(line))]
        texts = [match["text"].strip('"') for match in logged if match["level"] == "E"]
        return [text for text in texts if not text.startswith(NOT_ERRORS)]

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101  asked for above
        with self._process.stdout as lines:
            for line in lines:
                self._lines.append(line.rstrip())
                with suppress(OSError):  # a full disk or a closed terminal; unread, the pipe would hold Triton up
                    self._log(line.rstrip())


@contextmanager
def started(
    command: list[str], environment: Mapping[str, str], folder: Path, regions: str, log: Callable[[str], None]
) -> Iterator[Process]:
    """Run Triton for the length of a ``with`` block; its shared memory goes with it.

    When the block ends with an error Triton is killed: nobody is being answered, and with a dead stub it would wait for
    that until its own timeout. One that holds too much memory still answers, and may finish.
    """
    process = Process(command, environment, folder, log)
    try:
        yield process
    except TooMuchMemory:
        raise
    except Exception:
        process.kill()
        raise
    finally:
        process.stop()
        for region in SHARED_MEMORY.glob(f"{regions}*"):
            region.unlink(missing_ok=True)


def memory_bytes(server: int) -> int:
    """Return what a process and its children hold in memory; pages that processes share are divided among them."""
    return sum(_memory_bytes(pid) for pid, _, parent in _processes() if server in (pid, parent))


def _memory_bytes(pid: int) -> int:
    with suppress(OSError):  # it ended while we looked
        found = re.search(r"^Pss: +(\d+) kB$", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
        return int(found[1]) * 1024 if found else 0
    return 0


def _processes() -> Iterator[tuple[int, str, int]]:
    """Yield the number, state and parent of each process."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended while we looked
            state, parent = path.read_text(errors="replace").rpartition(")")[2].split()[:2]
            yield int(path.parent.name), state, int(parent)
