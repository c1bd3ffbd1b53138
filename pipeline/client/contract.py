"""What the server says of a model: the part of its configuration that a client depends on."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tritonclient.grpc import model_config_pb2

from pipeline.errors import RequestError
from pipeline.signature import Interface, Tensor, make_signature

_DIMS = tuple[str, tuple[int, ...]]  # a tensor's data type, and its dims without the batch axis


@dataclass(frozen=True)
class Contract:
    """What a served model takes and gives.

    Attributes:
        interface: ``text`` or ``features``.
        classes: the label names; column ``i`` of ``probabilities`` belongs to ``classes[i]``. Class numbers when the
            configuration names none.
        feature_size: F, the numbers in one frame; None for text.
        max_batch_size: the most rows that one request may carry.
    """

    interface: Interface
    classes: tuple[str, ...]
    feature_size: int | None
    max_batch_size: int

    @classmethod
    def from_config(cls, config: Any) -> "Contract":
        """Read a contract from a `ModelConfig` message.

        Raises:
            RequestError: the model is not one that `pipeline publish` wrote.
        """
        inputs, outputs = _found(config.input, config.max_batch_size), _found(config.output, config.max_batch_size)
        interface: Interface = "features" if "features" in inputs else "text"
        feature_size = inputs["features"][1][-1] if interface == "features" else None
        classes = _classes(config, outputs)
        signature = make_signature(interface, classes, feature_size)
        _compare(config.name, "input", inputs, signature.inputs)
        _compare(config.name, "output", outputs, signature.outputs)
        return cls(interface, classes, feature_size, max(1, config.max_batch_size))


def _compare(model: str, kind: str, found: dict[str, _DIMS], wanted: Iterable[Tensor]) -> None:
    for tensor in wanted:
        dims = tuple(-1 if isinstance(size, str) else size for size in tensor.shape[1:])
        got = found.get(tensor.name)
        if got != (tensor.dtype, dims):
            words = f"{got[0]} {list(got[1])}" if got else "none"
            raise RequestError(
                f"{model}: not a classifier of this pipeline: {kind} `{tensor.name}`: got {words}, "
                f"wanted {tensor.dtype} {list(dims)}. Ask for a model that `pipeline publish` wrote."
            )


def _found(tensors: Any, max_batch_size: int) -> dict[str, _DIMS]:
    """Return each tensor's data type and dims; the batch axis is written out only where Triton does not batch."""
    first, name_of = 0 if max_batch_size else 1, model_config_pb2.DataType.Name
    return {item.name: (name_of(item.data_type).removeprefix("TYPE_"), tuple(item.dims)[first:]) for item in tensors}


def _classes(config: Any, outputs: dict[str, _DIMS]) -> tuple[str, ...]:
    if "classes" in config.parameters:
        try:
            return tuple(map(str, json.loads(config.parameters["classes"].string_value)))
        except (ValueError, TypeError) as error:
            raise RequestError(f"{config.name}: parameter `classes` is not a JSON list of label names.") from error
    _, dims = outputs.get("probabilities", ("", ()))
    return tuple(str(number) for number in range(dims[0] if dims else 0))
