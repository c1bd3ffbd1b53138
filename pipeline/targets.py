"""What each Triton release can load: the ONNX Runtime inside it, and the newest operators and format that one reads.

A release is in the table only when its ONNX Runtime is known and both ceilings were measured: a model at each of them
loads in that version, one beyond it does not (``tests/test_other_runtimes.py`` measures it again).
"""

from dataclasses import dataclass

from pipeline.errors import UsageError


@dataclass(frozen=True)
class Target:
    """A Triton release.

    Attributes:
        name: as ``--target`` takes it.
        onnxruntime: the version of ONNX Runtime in its ``onnxruntime`` backend.
        opset: the highest version of the standard operators that one loads.
        ir_version: the highest version of the file format that one loads.
        source: how its ONNX Runtime is known.
    """

    name: str
    onnxruntime: str
    opset: int
    ir_version: int
    source: str

    def __str__(self) -> str:
        return f"{self.name} (ONNX Runtime {self.onnxruntime})"


TARGETS = {
    target.name: target
    for target in (
        Target("triton-24.10", "1.19.2", 21, 10, "seen in the release's own C++ backend"),
        Target("triton-26.07", "1.27.0", 26, 13, "the project's design, of the official image"),
    )
}


def targets_named(names: tuple[str, ...]) -> tuple[Target, ...]:
    """Return the releases of these names; all of the table when none is named.

    Raises:
        UsageError: the table has no such release.
    """
    for name in names:
        if name not in TARGETS:
            raise UsageError(f"--target {name}: not a known Triton release; there are {', '.join(TARGETS)}.")
    return tuple(TARGETS[name] for name in names or TARGETS)
