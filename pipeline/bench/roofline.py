"""The roofline of recurrent layers: no device runs them faster than its arithmetic and its memory allow.

Source: Williams, Waterman and Patterson 2009, Roofline. Both limits are measured on the device that runs the model.
"""

from dataclasses import dataclass

from pipeline.capacity import Network


@dataclass(frozen=True)
class Peaks:
    """What a device reached: operations a second in a large product of matrices, bytes a second in a large copy."""

    operations: float
    bytes: float


@dataclass(frozen=True)
class Work:
    """What the recurrent layers do in one call.

    Attributes:
        operations: multiplications and additions.
        bytes: each weight, input and output read or written once: what a device with a large cache must move.
        streamed_bytes: the recurrent weights read from memory again at every step: what one without a cache must move.
        step_operations: of one step of all rows.
        step_bytes: of one step, the recurrent weights included.
    """

    operations: float
    bytes: float
    streamed_bytes: float
    step_operations: float
    step_bytes: float


@dataclass(frozen=True)
class Bound:
    """The least seconds of a call.

    Attributes:
        seconds: no implementation is faster.
        streamed_seconds: none is that does not keep the recurrent weights in a cache.
        by: ``arithmetic`` or ``memory``: what the first is made of.
    """

    seconds: float
    streamed_seconds: float
    by: str


def work(network: Network, rows: int, tokens: int, number_bytes: int) -> Work:
    """Return the work of B rows of T tokens, a number taking 4 bytes (fp32, TF32) or 2 (fp16)."""
    inputs_outputs = sum(inputs + network.directions * H for inputs, H in network.layers)
    once = number_bytes * (network.weights + rows * tokens * inputs_outputs)
    recurrent = number_bytes * network.recurrent_weights
    return Work(
        operations=rows * tokens * network.operations,
        bytes=once,
        streamed_bytes=once + (tokens - 1) * recurrent,
        step_operations=rows * network.operations,
        step_bytes=recurrent + number_bytes * rows * inputs_outputs,
    )


def bound(call: Work, peaks: Peaks) -> Bound:
    """Return what a device's peaks allow."""
    arithmetic = call.operations / peaks.operations
    memory, streamed = call.bytes / peaks.bytes, call.streamed_bytes / peaks.bytes
    by = "arithmetic" if arithmetic >= memory else "memory"
    return Bound(max(arithmetic, memory), max(arithmetic, streamed), by)
