"""What can be measured: the face that every target has, and our own three.

A target is a small record that travels to the client's process and connects there; a benchmark's own targets (other
servers) are written to the same face.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal, Protocol

from pipeline.client import Access
from pipeline.client.control import Work

Labels = list[str]
Done = Callable[[Labels | Exception], None]


class Connection(ABC):
    """What a target opens in the client's process.

    Attributes:
        batch_size: the most texts in one request.
        in_flight: how many requests Offline keeps on their way.
        is_remote: whether the work is done elsewhere, so that this process' CPU time is the client's own.
    """

    batch_size: int = 64
    in_flight: int = 8
    is_remote: bool = True

    @abstractmethod
    def encode(self, texts: Sequence[bytes]) -> Any:
        """Return a request for at most `batch_size` texts, ready to send; it may be sent many times."""

    @abstractmethod
    def ask(self, request: Any, done: Done) -> None:
        """Send a request and return at once; `done` is called once, from any thread, with the labels or an error."""

    def answer(self, request: Any) -> Labels:
        """Send a request and wait for its labels; overridden where that is faster than `ask`.

        Raises:
            Exception: whatever went wrong.
        """
        answers: SimpleQueue[Labels | Exception] = SimpleQueue()
        self.ask(request, answers.put)
        answer = answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def work(self) -> Work | None:
        """Return what the server has done for the model so far, where it can be asked."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Hang up."""


class Target(Protocol):
    """What is measured: a picklable record."""

    @property
    def name(self) -> str:
        """What to call it in tables."""

    def connect(self) -> Connection:
        """Open a connection; called in the client's process."""


@dataclass(frozen=True)
class OnnxTarget:
    """ONNX Runtime in the client's own process: no server, the ceiling of what one can reach.

    Attributes:
        model: the file.
        threads: inside an operator; 0 for one for each core.
        batch_size: the most texts in a batch.
        name: what to call it.
        instances: how many batches are run at once.
    """

    model: Path
    threads: int = 0
    batch_size: int = 64
    name: str = "ONNX Runtime in process"
    instances: int = 1

    def connect(self) -> Connection:
        """Load the model.

        Raises:
            UsageError: it takes no text.
            PipelineError: it does not load.
        """
        from pipeline.bench.serving.in_process import InProcess

        return InProcess(self)


@dataclass(frozen=True)
class TritonTarget:
    """A model on a Triton server.

    Attributes:
        url: host and port.
        model: its name.
        protocol: of that port.
        version: a version number; empty for the one that the server chooses.
        access: how the server is reached.
        in_flight: how many requests Offline keeps on their way.
        name: what to call it.
    """

    url: str
    model: str
    protocol: Literal["grpc", "http"] = "grpc"
    version: str = ""
    access: Access = field(default_factory=Access)
    in_flight: int = 8
    name: str = "Triton"

    def connect(self) -> Connection:
        """Connect and ask what the model takes.

        Raises:
            UsageError: the model takes no text.
            ServerError: the server cannot be reached, or does not serve this model.
        """
        from pipeline.bench.serving.triton import OverGrpc, OverHttp

        return OverGrpc(self) if self.protocol == "grpc" else OverHttp(self)
