"""What a model that was trained elsewhere takes and gives, as its graph or a ``signature.json`` says.

Our own `pipeline.signature.Signature` knows four data types and two interfaces; a graph of someone else's may hold any.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from pipeline.errors import PipelineError, UsageError

NUMPY_DTYPES = {
    "STRING": np.dtype(object),
    "BOOL": np.dtype(np.bool_),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    **{f"INT{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
}
_OF_ONNX = {
    TensorProto.FLOAT16: "FP16",
    TensorProto.FLOAT: "FP32",
    TensorProto.DOUBLE: "FP64",
    **{TensorProto.DataType.Value(name): name for name in NUMPY_DTYPES if not name.startswith("FP")},
}
Axis = int | str | None


@dataclass(frozen=True)
class TensorSpec:
    """One named tensor.

    Attributes:
        name: as the graph calls it.
        dtype: one of `NUMPY_DTYPES`, or the ONNX name of what is none of them, in lower case.
        shape: a size, a dynamic axis's name, or None for a dynamic axis without one.
        least: the smallest number to draw.
        most: the largest number to draw, or the axis whose size it is.
    """

    name: str
    dtype: str
    shape: tuple[Axis, ...]
    least: float | None = None
    most: float | str | None = None

    @property
    def kind(self) -> str:
        """The NumPy kind of its numbers: ``O`` for text, ``b``, ``f``, ``i`` or ``u``."""
        return NUMPY_DTYPES[self.dtype].kind


@dataclass(frozen=True)
class ModelSpec:
    """What a model takes and gives.

    Attributes:
        inputs: in the graph's order.
        outputs: in the graph's order.
        batch_axis: the axis that rows lie along, each apart from the others; None where there is none.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batch_axis: str | None = None

    @property
    def axes(self) -> list[str]:
        """The names of the inputs' dynamic axes, in order of appearance."""
        names = [axis for tensor in self.inputs for axis in tensor.shape if isinstance(axis, str)]
        return list(dict.fromkeys(names))

    def is_batch_axis(self, axis: str | None) -> bool:
        """Whether an input has an axis, and every output once."""
        return axis in self.axes and all(tensor.shape.count(axis) == 1 for tensor in self.outputs)


def make_spec(inputs: Iterable[TensorSpec], outputs: Iterable[TensorSpec]) -> ModelSpec:
    """Return a specification whose rows lie along ``batch``, or else along the one first axis of all inputs."""
    spec = ModelSpec(tuple(inputs), tuple(outputs))
    first = {tensor.shape[0] for tensor in spec.inputs if tensor.shape and isinstance(tensor.shape[0], str)}
    axis = "batch" if "batch" in spec.axes else str(first.pop()) if len(first) == 1 else None
    return replace(spec, batch_axis=axis if spec.is_batch_axis(axis) else None)


def require(path: Path) -> Path:
    """Return the path of a file that is there.

    Raises:
        UsageError: it is not.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file.")
    return path


def read_graph(path: Path) -> tuple[ModelSpec, list[Path]]:
    """Return what an ONNX file takes and gives, and all the files its bytes lie in.

    Raises:
        UsageError: there is no such file.
        PipelineError: it is not ONNX, or gives a tensor no rank, or its weights lie outside its folder.
    """
    try:
        model = onnx.load(require(path), load_external_data=False)
        stored = {tensor.name for tensor in model.graph.initializer}
        inputs = tuple(_of_graph(path, info) for info in model.graph.input if info.name not in stored)
        outputs = tuple(_of_graph(path, info) for info in model.graph.output)
    except PipelineError:
        raise
    except Exception as error:  # a damaged file fails in protobuf or in onnx, in many ways
        raise PipelineError(f"{path}: not an ONNX model ({type(error).__name__}). Export it again.") from error
    if not outputs:
        raise PipelineError(f"{path}: not an ONNX model: it has no outputs. Export it again.")
    return make_spec(inputs, outputs), [path, *_external_files(path, model)]


def read_signature(path: Path) -> ModelSpec:
    """Return what a file in the form of our ``signature.json`` declares; `batch_axis` may be given.

    Raises:
        UsageError: there is no such file.
        PipelineError: it is not a signature; the message names the place.
    """
    try:
        content = json.loads(require(path).read_bytes())
        spec = make_spec(*(map(_of_json, content[side]) for side in ("inputs", "outputs")))
        spec = replace(spec, batch_axis=content.get("batch_axis", spec.batch_axis))
        _check_signature(spec)
    except (KeyError, TypeError, ValueError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else error
        raise PipelineError(
            f'{path}: not a signature: {reason}. Wanted {{"inputs": [{{"name": …, "dtype": …, "shape": […]}}], '
            f'"outputs": […]}}.'
        ) from error
    return spec


def with_batch(spec: ModelSpec) -> ModelSpec:
    """Call the first axis ``batch`` in a graph that names no axis and whose only dynamic one is the first.

    scikit-learn's converter can name none. That it is one and the same axis is no guess for long: it is tried.
    """
    tensors = (*spec.inputs, *spec.outputs)
    if any(isinstance(axis, str) for tensor in tensors for axis in tensor.shape) or any(
        None in tensor.shape[1:] for tensor in tensors
    ):
        return spec

    def named(tensor: TensorSpec) -> TensorSpec:
        return replace(tensor, shape=tuple("batch" if axis is None else axis for axis in tensor.shape))

    return make_spec(map(named, spec.inputs), map(named, spec.outputs))


def _of_graph(path: Path, info: onnx.ValueInfoProto) -> TensorSpec:
    kind = info.type.tensor_type
    if not info.type.HasField("tensor_type"):
        return TensorSpec(info.name, _type_name(info.type), ())
    if not kind.HasField("shape"):
        raise PipelineError(
            f"{path}: {info.name} has no declared shape. Run onnx.shape_inference.infer_shapes, or export it again."
        )
    shape = tuple(axis.dim_value if axis.HasField("dim_value") else axis.dim_param or None for axis in kind.shape.dim)
    return TensorSpec(info.name, _OF_ONNX.get(kind.elem_type, TensorProto.DataType.Name(kind.elem_type).lower()), shape)


def _type_name(kind: onnx.TypeProto) -> str:
    name = str(kind.WhichOneof("value")).removesuffix("_type")
    return f"sequence of {_type_name(kind.sequence_type.elem_type)}" if name == "sequence" else name


def _external_files(path: Path, model: onnx.ModelProto) -> list[Path]:
    places = {
        entry.value
        for tensor in model.graph.initializer
        if tensor.data_location == TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    files = [path.parent / place for place in sorted(places)]
    for file in files:
        if not file.resolve().is_relative_to(path.parent.resolve()) or not file.is_file():
            raise PipelineError(
                f"{path}: its weights lie in {file}, which is not a file of its folder. Export it again."
            )
    return files


def _of_json(item: dict[str, Any]) -> TensorSpec:
    spec = TensorSpec(item["name"], item["dtype"], tuple(item["shape"]), item.get("least"), item.get("most"))
    if not isinstance(spec.name, str) or spec.dtype not in NUMPY_DTYPES:
        raise ValueError(f"{spec.name}: dtype {spec.dtype!r} is none of {', '.join(NUMPY_DTYPES)}")
    if not all((isinstance(axis, str) and axis) or (type(axis) is int and axis > 0) for axis in spec.shape):
        raise ValueError(f"{spec.name}: shape {list(spec.shape)} is not made of sizes and axis names")
    return spec


def _check_signature(spec: ModelSpec) -> None:
    """Check what no tensor shows alone.

    Raises:
        ValueError: no outputs, a name twice, or a range that is none.
    """
    for side in (spec.inputs, spec.outputs):
        if len({tensor.name for tensor in side}) != len(side):
            raise ValueError("two tensors of one name")
    if not spec.outputs:
        raise ValueError("no outputs")
    if spec.batch_axis is not None and not spec.is_batch_axis(spec.batch_axis):
        raise ValueError(f"batch_axis {spec.batch_axis!r} is not an axis of an input and of every output")
    for tensor in spec.inputs:
        _check_range(tensor, spec.axes)


def _check_range(tensor: TensorSpec, axes: list[str]) -> None:
    least, most = tensor.least or 0, tensor.most
    if isinstance(most, str) and most not in axes:
        raise ValueError(f"{tensor.name}: most {most!r} is no axis of the inputs")
    if most is None and tensor.least is not None:
        raise ValueError(f"{tensor.name}: least {least} without most")
    limits = np.iinfo(NUMPY_DTYPES[tensor.dtype] if tensor.kind in "iu" else np.int64)
    for number in (least, 0 if isinstance(most, str) or most is None else most):
        if not isinstance(number, int | float) or isinstance(number, bool):
            raise TypeError(f"{tensor.name}: {number!r} is no number")
        if tensor.kind in "iu" and not limits.min <= number <= limits.max:
            raise ValueError(f"{tensor.name}: {number} is no {tensor.dtype}")
    if not isinstance(most, str) and most is not None and least > most:
        raise ValueError(f"{tensor.name}: least {least} is more than most {most}")
