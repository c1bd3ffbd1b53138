"""The contract: what a model takes and gives, declared once.

Export names the graph's tensors by it, verification checks the graph against it, ``config.pbtxt`` and the client are
written from it. ``signature.json`` is its only form on disk.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import RunError
from pipeline.files import read_json, write_json

Interface = Literal["text", "features"]
DataType = Literal["STRING", "FP32", "INT64", "BOOL"]

BATCH = "batch"
SEQ = "seq"


@dataclass(frozen=True)
class Tensor:
    """One named tensor: its data type, and its shape, whose dynamic axes are named ``batch`` and ``seq``."""

    name: str
    dtype: DataType
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Signature:
    """What a model takes and gives.

    Attributes:
        interface: ``text`` (raw UTF-8 text) or ``features`` (frames of numbers with their lengths).
        inputs: the graph's inputs, in order.
        outputs: the graph's outputs, in order.
        classes: the label names; column ``i`` of ``probabilities`` belongs to ``classes[i]``.
        hashes: SHA-256 of ``model.onnx`` and of the files it was made from, by file name.
    """

    interface: Interface
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    classes: tuple[str, ...]
    hashes: dict[str, str]

    @property
    def feature_size(self) -> int | None:
        """F, the numbers in one frame; None for text."""
        size = self.inputs[0].shape[-1]
        return size if self.interface == "features" and isinstance(size, int) else None

    @property
    def contract(self) -> dict[str, Any]:
        """What a client depends on: everything but the hashes."""
        contract = asdict(self)
        del contract["hashes"]
        return contract

    def save(self, path: Path) -> None:
        """Write ``signature.json``."""
        write_json(path, {"format": 1, **asdict(self)})

    @classmethod
    def load(cls, path: Path) -> "Signature":
        """Read ``signature.json``.

        Raises:
            RunError: the file is missing, cut off, or not a signature.
        """
        content = read_json(path)
        try:
            return cls(
                interface=content["interface"],
                inputs=_tensors(content["inputs"]),
                outputs=_tensors(content["outputs"]),
                classes=tuple(content["classes"]),
                hashes=dict(content["hashes"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"{path}: not a signature ({error!r}). Run `pipeline export` again.") from error


def make_signature(interface: Interface, classes: tuple[str, ...], feature_size: int | None = None) -> Signature:
    """Return the signature of a model before its bytes exist (no hashes)."""
    outputs = (
        Tensor("probabilities", "FP32", (BATCH, len(classes))),
        Tensor("label", "STRING", (BATCH, 1)),
        Tensor("valid", "BOOL", (BATCH, 1)),
    )
    if interface == "text":
        inputs: tuple[Tensor, ...] = (Tensor("text", "STRING", (BATCH, 1)),)
    else:
        if feature_size is None:
            raise ValueError("a feature interface needs its feature_size")
        inputs = (Tensor("features", "FP32", (BATCH, SEQ, feature_size)), Tensor("lengths", "INT64", (BATCH, 1)))
    return Signature(interface, inputs, outputs, classes, hashes={})


def _tensors(items: list[dict[str, Any]]) -> tuple[Tensor, ...]:
    return tuple(Tensor(item["name"], item["dtype"], tuple(item["shape"])) for item in items)
