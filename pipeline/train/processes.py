"""Training in several processes, as `torchrun` starts them: one of them is alone unless the environment says more."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from pipeline.errors import PipelineError, UsageError


@dataclass(frozen=True)
class Processes:
    """The processes that train one model together.

    Attributes:
        rank: this one, from 0; 0 writes the run.
        size: how many there are.
        local_rank: this one on its machine: the number of its GPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this process writes and shows what there is to see."""
        return self.rank == 0

    def sum(self, tensors: list[Tensor]) -> None:
        """Add up, in place, each tensor over all processes, in one exchange.

        Raises:
            PipelineError: another process is gone.
        """
        if self.size == 1 or not tensors:
            return
        together = torch.cat([tensor.flatten() for tensor in tensors])
        with _others_expected():
            distributed.all_reduce(together)
        for tensor, part in zip(tensors, torch.split(together, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def mean(self, tensor: Tensor) -> None:
        """Replace a tensor by its mean over all processes; whole numbers, which count alike everywhere, stay."""
        if tensor.is_floating_point():
            self.sum([tensor])
            tensor /= self.size

    def share_text(self, text: str) -> str:
        """Return the first process's text in all of them."""
        if self.size == 1:
            return text
        content = torch.zeros(4096, dtype=torch.uint8)
        encoded = torch.tensor(list(text.encode()), dtype=torch.uint8)
        content[: len(encoded)] = encoded
        device = torch.device("cuda", self.local_rank) if distributed.get_backend() == "nccl" else torch.device("cpu")
        content = content.to(device)
        with _others_expected():
            distributed.broadcast(content, 0)
        return bytes(content.cpu().tolist()).rstrip(b"\0").decode()


@contextlib.contextmanager
def joined(device: str) -> Iterator[Processes]:
    """Join the processes that `torchrun` started with this one: over gloo on the CPU, over NCCL on GPUs.

    Raises:
        UsageError: the environment tells of several processes and not which this one is, or it has no GPU of its own.
        PipelineError: another process is gone.
    """
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), os.environ.get("RANK")
    if size == 1:
        yield Processes()
        return
    if rank is None:
        raise UsageError(
            f"WORLD_SIZE={size} and no RANK in the environment: start it with torchrun, or unset WORLD_SIZE."
        )
    processes = Processes(int(rank), size, int(os.environ.get("LOCAL_RANK", "0")))
    if device == "cuda":
        if processes.local_rank >= torch.cuda.device_count():
            raise UsageError(
                f"torchrun: process {processes.local_rank + 1} of this machine has no GPU of its own: PyTorch sees "
                f"{torch.cuda.device_count()}. Lower --nproc-per-node."
            )
        torch.cuda.set_device(processes.local_rank)
    with _others_expected():
        distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield processes
    finally:
        distributed.destroy_process_group()


@contextlib.contextmanager
def _others_expected() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise PipelineError(
            f"another training process is gone ({reason}). Go on from the last checkpoint with --resume RUN."
        ) from error
