"""How an int8 layer's outputs are pooled: as they lie, steps first, guards and all.

As exported, a layer's outputs are put in order and masked before they are pooled: on long texts these copies of the
graph's largest tensor take an eighth to a fifth of an int8 model's time. ONNX Runtime's int8 kernel gives zeros past a
row's length (CUDA's kernels do not), so a sum needs no mask and a maximum only −∞ added there; the few pooled numbers
are put in order instead.

Legend: B rows in a batch, T steps, H units of a layer, D directions.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

_STEPS_FIRST_TO_ROWS_FIRST = [2, 0, 1, 3]
_NEUTRAL = {"ReduceMax": -np.inf, "ReduceSum": 0.0}


@dataclass(frozen=True)
class Pooling:
    """The nodes between a layer and what is pooled of it.

    Attributes:
        ordering: (T, D, B, H) → (B, T, D·H): a Transpose and a Reshape.
        masks: each a Where that puts what is neutral past a row's length.
        reductions: over the steps, of each mask: (B, T, D·H) → (B, D·H).
    """

    ordering: tuple[onnx.NodeProto, onnx.NodeProto]
    masks: list[onnx.NodeProto]
    reductions: list[onnx.NodeProto]

    @property
    def nodes(self) -> list[onnx.NodeProto]:
        """All of them."""
        return [*self.ordering, *self.masks, *self.reductions]


def pooling_of(graph: onnx.GraphProto, layer: onnx.NodeProto) -> Pooling | None:
    """Return how the outputs of a recurrent layer are pooled; None if anything but sums and maxima reads them."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    transposes = _readers(graph, layer)
    reshapes = [reader for node in transposes for reader in _readers(graph, node)]
    if [node.op_type for node in (*transposes, *reshapes)] != ["Transpose", "Reshape"]:
        return None
    if helper.get_node_attr_value(transposes[0], "perm") != _STEPS_FIRST_TO_ROWS_FIRST:
        return None
    masks = _readers(graph, reshapes[0])
    reductions = [_readers(graph, mask) for mask in masks]
    if not all(
        _is_mask(mask, reshapes[0], constants) and len(readers) == 1 and _is_reduction(readers[0], mask, constants)
        for mask, readers in zip(masks, reductions, strict=True)
    ):
        return None
    return Pooling((transposes[0], reshapes[0]), masks, [reader for (reader,) in reductions])


def pooled(
    mask: onnx.NodeProto, reduction: onnx.NodeProto, outputs: str, units: int
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Return the nodes, and their constants, that pool a layer's outputs as they lie.

    Args:
        mask: the node that masked the outputs once they were in order.
        reduction: the node that reduced them; its output keeps its name.
        outputs: name of the layer's outputs, (T, D, B, H + guards).
        units: H.
    """
    constants: list[onnx.TensorProto] = []

    def name(part: str) -> str:
        return f"{reduction.name}/{part}"

    def constant(part: str, values: np.ndarray | np.float32) -> str:
        constants.append(numpy_helper.from_array(np.asarray(values), name(part)))
        return constants[-1].name

    def nodes() -> Iterator[onnx.NodeProto]:
        def made(op_type: str, inputs: list[str], part: str, **attributes: object) -> onnx.NodeProto:
            return helper.make_node(op_type, inputs, [name(part)], name=name(part), **attributes)  # type: ignore[arg-type]

        steps, last = outputs, constant("last_axis", np.array([3]))
        if reduction.op_type == "ReduceMax":
            neither = [constant("inside", np.float32(0)), constant("outside", np.float32(-np.inf))]
            yield made("Where", [mask.input[0], *neither], "bias")  # (B, T, 1)
            yield made("Transpose", [name("bias")], "bias_by_step", perm=[1, 2, 0])
            yield made("Unsqueeze", [name("bias_by_step"), last], "bias_of_unit")  # (T, 1, B, 1)
            yield made("Add", [outputs, name("bias_of_unit")], "steps")
            steps = name("steps")
        first = constant("first_axis", np.array([0]))
        yield made(reduction.op_type, [steps, first], "reduced", keepdims=0)  # (D, B, H + guards)
        ends = [first, constant("units", np.array([units])), constant("unit_axis", np.array([2]))]
        yield made("Slice", [name("reduced"), *ends], "unguarded")
        yield made("Transpose", [name("unguarded")], "by_row", perm=[1, 0, 2])
        shape = constant("shape", np.array([0, -1]))
        yield helper.make_node("Reshape", [name("by_row"), shape], [reduction.output[0]], name=reduction.name)

    return list(nodes()), constants


def _readers(graph: onnx.GraphProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    return [reader for reader in graph.node if set(node.output) & set(reader.input)]


def _is_mask(node: onnx.NodeProto, masked: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> bool:
    return node.op_type == "Where" and node.input[1] == masked.output[0] and node.input[2] in constants


def _is_reduction(node: onnx.NodeProto, mask: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> bool:
    """Tell whether a node reduces the second axis alone, to nothing, over what is neutral to it."""
    neutral = numpy_helper.to_array(constants[mask.input[2]])
    if node.op_type not in _NEUTRAL or neutral.ravel().tolist() != [_NEUTRAL[node.op_type]]:
        return False
    axes = numpy_helper.to_array(constants[node.input[1]]).ravel().tolist() if node.input[1:] else []
    keepdims = {item.name: helper.get_attribute_value(item) for item in node.attribute}.get("keepdims", 1)
    return axes == [1] and not keepdims
