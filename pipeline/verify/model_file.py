"""A model file that nobody vouches for: what must hold before anything loads it."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import onnx
from google.protobuf.message import DecodeError, Message
from onnx import TensorProto

from pipeline.errors import CheckFailed
from pipeline.targets import Target

LARGEST = 2**31 - 1
"""The most bytes that protobuf reads as one message."""

STOCK_DOMAINS = {"": "ai.onnx", "ai.onnx.ml": "ai.onnx.ml", "com.microsoft": "com.microsoft"}


def read_model(path: Path) -> onnx.ModelProto:
    """Read a model file, and no other file whatever it names.

    Raises:
        CheckFailed: it is larger than protobuf reads, no ONNX, or not self-contained.
    """
    size = path.stat().st_size
    if size > LARGEST:
        raise CheckFailed(f"got {size:,} bytes; allowed {LARGEST:,}, the most that protobuf reads")
    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError as error:
        raise CheckFailed(f"got {size:,} bytes that are no ONNX; wanted a whole model file") from error
    if outside := [_named(tensor) for tensor in _tensors(model) if _is_external(tensor)]:
        more = f" and {len(outside) - 1} more" if len(outside) > 1 else ""
        raise CheckFailed(f"got the values of {outside[0]}{more}; allowed: all of them in this one file")
    return model


def form_problems(model: onnx.ModelProto, targets: tuple[Target, ...]) -> Iterator[str]:
    """Yield what keeps a model from being loaded where it is to be served: versions and foreign operators."""
    opsets = {item.domain: item.version for item in model.opset_import}
    opset, ir_version = opsets.get("", 0), model.ir_version
    for target in targets:
        if opset > target.opset or ir_version > target.ir_version:
            yield (
                f"got opset {opset}, IR {ir_version}; "
                f"{target} allows opset {target.opset}, IR {target.ir_version} at most"
            )
    if foreign := sorted(set(opsets) - set(STOCK_DOMAINS)):
        yield f"got operators of {', '.join(foreign)}; allowed those of {', '.join(STOCK_DOMAINS.values())}"


def _tensors(message: Message) -> Iterator[TensorProto]:
    """Yield every tensor, however deep: of initialisers, attributes, nested graphs and functions."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for part in [value] if isinstance(value, Message) else value:
            if isinstance(part, TensorProto):
                yield part
            else:
                yield from _tensors(part)


def _is_external(tensor: TensorProto) -> bool:
    return tensor.data_location == TensorProto.EXTERNAL or bool(tensor.external_data)


def _named(tensor: TensorProto) -> str:
    location = {entry.key: entry.value for entry in tensor.external_data}.get("location", "")
    path = PurePosixPath(location.replace("\\", "/"))
    where = " outside its folder" if path.is_absolute() or ".." in path.parts else ""
    return f"{tensor.name!r} in another file, {location!r}{where}"
