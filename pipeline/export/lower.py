"""The recurrent layers of an exported model at a lower precision.

Every other node stays as it was exported, but for the pooling of an int8 layer; see `pipeline.export.pool`.

They are where the time goes, and the only weights that are read again at every step. An int8 layer is ONNX Runtime's
``DynamicQuantizeLSTM``, which measures the range of what it reads over the whole batch at once, so that a row's answer
would depend on its company (microsoft/onnxruntime#10111). Two guards make both ranges the same in every batch:

- What enters the layer is clipped to a range measured on training rows, and two more features hold its ends.
- Two more hidden units, which no other unit reads, have open gates and ±1 to add: at step t they hold ±tanh(t), which
  no unit of the layer can exceed.

The weights have 7 bits, so that the sums of products do not saturate on processors without VNNI: the same integers
everywhere. They are quantised by output channel, symmetrically.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pipeline.errors import PipelineError
from pipeline.export.pool import Pooling, pooled, pooling_of
from pipeline.gate import RECURRENT

FLOATS = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
LARGEST_WEIGHT = 63
GUARDS = 2
_OPEN = 30.0  # a gate's bias: its sigmoid is 1 in float32
_LSTM_GATES = 4  # input, output, forget, cell

Range = tuple[float, float]


def recurrent_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the nodes that can be lowered, in order."""
    return [node for node in model.graph.node if node.op_type in RECURRENT]


def lowered(
    model: onnx.ModelProto, precision: str, ranges: Mapping[str, Range], kept: Collection[str] = ()
) -> onnx.ModelProto:
    """Return a copy of a model with its recurrent layers at another precision.

    Args:
        model: as exported.
        precision: ``int8``, ``fp16`` or ``bf16``.
        ranges: by the node's name, the smallest and largest number that enters it; for int8.
        kept: names of nodes that stay as they are.

    Raises:
        PipelineError: ONNX Runtime has no such operator.
    """
    graph = onnx.GraphProto()
    graph.CopyFrom(model.graph)
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    instead: dict[str, list[onnx.NodeProto]] = {}  # by a node's first output, what takes its place
    replaced: set[str] = set()  # weights; one may be of several layers
    for node in graph.node:
        if node.op_type not in RECURRENT or node.name in kept:
            nodes += instead.get(node.output[0], [node])
            continue
        layer = _Layer(node, [weights[name] for name in node.input[1:4]])
        replaced.update(node.input[1:4])
        if precision == "int8":
            nodes += layer.int8(ranges[node.name])
            pooling = pooling_of(graph, node)
            instead |= layer.pooled(pooling) if pooling else {}
            nodes += [] if pooling else [layer.unguarded()]
        else:
            nodes += layer.cast(FLOATS[precision])
        weights |= {tensor.name: tensor for tensor in layer.made}
    unused = replaced - {name for node in nodes for name in node.input}
    left = [tensor for name, tensor in weights.items() if name not in unused]
    lower = helper.make_graph(nodes, graph.name, graph.input, graph.output, left, value_info=graph.value_info)
    return helper.make_model(
        lower, opset_imports=model.opset_import, ir_version=model.ir_version, producer_name=model.producer_name
    )


class _Layer:
    """One recurrent node and the nodes that take its place; `made` holds their weights."""

    def __init__(self, node: onnx.NodeProto, weights: list[onnx.TensorProto]) -> None:
        self.made: list[onnx.TensorProto] = []
        self._node = node
        self._weights = weights
        self._attributes: dict[str, Any] = {item.name: helper.get_attribute_value(item) for item in node.attribute}

    def cast(self, dtype: int) -> Iterator[onnx.NodeProto]:
        """Yield the same operator in another floating-point type, between two casts."""
        node, name = self._node, self._name
        for tensor in self._weights:
            values = numpy_helper.to_array(tensor)
            self.made.append(helper.make_tensor(f"{tensor.name}_low", dtype, values.shape, values.ravel()))
        inputs = [name("steps"), *(tensor.name for tensor in self.made), node.input[4]]
        yield helper.make_node("Cast", [node.input[0]], [name("steps")], name=name("lower"), to=dtype)
        yield helper.make_node(node.op_type, inputs, [name("outputs")], name=node.name, **self._attributes)
        yield helper.make_node("Cast", [name("outputs")], [node.output[0]], name=name("raise"), to=TensorProto.FLOAT)

    def int8(self, limits: Range) -> Iterator[onnx.NodeProto]:
        """Yield the guarded operator.

        Raises:
            PipelineError: it is a GRU.
        """
        node, name, constant = self._node, self._name, self._constant
        if node.op_type != "LSTM":
            raise PipelineError(f"ONNX Runtime has no int8 {node.op_type}; {node.name} is one.")
        W, R, B = (numpy_helper.to_array(tensor) for tensor in self._weights)  # (D, 4H, I), (D, 4H, H), (D, 8H)
        H = R.shape[2]
        quantised = [
            constant(part, values)
            for letter, weights in (("W", W), ("R", R))
            for part, values in _quantised(letter, _widened(weights, H))
        ]
        biases = constant("B", _guarded(B, H))
        W_int8, W_scale, W_zero, R_int8, R_scale, R_zero = quantised
        low, high = (constant(end, np.float32(limit)) for end, limit in zip(("low", "high"), limits, strict=True))
        one_more = constant("one_more", np.array([0, 0, 0, 0, 0, 1]))
        yield helper.make_node("Clip", [node.input[0], low, high], [name("clipped")], name=name("clip"))
        yield helper.make_node("Pad", [name("clipped"), one_more, low], [name("with_low")], name=name("guard_low"))
        yield helper.make_node("Pad", [name("with_low"), one_more, high], [name("steps")], name=name("guard_high"))
        yield helper.make_node(
            "DynamicQuantizeLSTM",
            [name("steps"), W_int8, R_int8, biases, node.input[4], "", "", "", W_scale, W_zero, R_scale, R_zero],
            [name("outputs")],
            name=node.name,
            domain="com.microsoft",
            **{**self._attributes, "hidden_size": H + GUARDS},
        )

    def unguarded(self) -> onnx.NodeProto:
        """Return the node that drops the guards."""
        ends = [("first", 0), ("last", self._attributes["hidden_size"]), ("axis", 3)]
        inputs = [self._name("outputs"), *(self._constant(part, np.array([value])) for part, value in ends)]
        return helper.make_node("Slice", inputs, [self._node.output[0]], name=self._name("unguarded"))

    def pooled(self, pooling: Pooling) -> dict[str, list[onnx.NodeProto]]:
        """Return, by first output, what takes the place of the nodes that pool the layer's outputs."""
        instead: dict[str, list[onnx.NodeProto]] = {node.output[0]: [] for node in pooling.nodes}
        for mask, reduction in zip(pooling.masks, pooling.reductions, strict=True):
            outputs, units = self._name("outputs"), self._attributes["hidden_size"]
            instead[reduction.output[0]], constants = pooled(mask, reduction, outputs, units)
            self.made += constants
        return instead

    def _name(self, part: str) -> str:
        return f"{self._node.name}/{part}"

    def _constant(self, part: str, values: np.ndarray | np.float32) -> str:
        self.made.append(numpy_helper.from_array(np.asarray(values), self._name(part)))
        return self.made[-1].name


def _widened(weights: np.ndarray, H: int) -> np.ndarray:
    """Add two units and two inputs that weigh nothing: (D, 4H, I) → (D, 4(H + 2), I + 2)."""
    by_gate = weights.reshape(len(weights), _LSTM_GATES, H, -1)
    wide = np.pad(by_gate, ((0, 0), (0, 0), (0, GUARDS), (0, GUARDS)))
    return wide.reshape(len(weights), _LSTM_GATES * (H + GUARDS), -1)


def _guarded(biases: np.ndarray, H: int) -> np.ndarray:
    """Add the biases that make the two units ±tanh(t): (D, 8H) → (D, 8(H + 2))."""
    by_gate = biases.reshape(len(biases), 2, _LSTM_GATES, H)  # of the inputs, of the recurrence
    wide = np.pad(by_gate, ((0, 0), (0, 0), (0, 0), (0, GUARDS)))
    wide[:, 0, :, H:] = _OPEN
    wide[:, 0, -1, -1] = -_OPEN
    return wide.reshape(len(biases), -1)


def _quantised(letter: str, weights: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Return int8 weights, transposed as the operator takes them, with a scale and a zero point for each channel.

    Shapes:
        weights: (D, G, I) float32 → (D, I, G) int8, (D, G) float32, (D, G) int8.
    """
    largest = np.abs(weights).max(2)
    scales = np.where(largest > 0, largest / LARGEST_WEIGHT, 1).astype(np.float32)
    rounded = np.round(weights / scales[:, :, None]).clip(-LARGEST_WEIGHT, LARGEST_WEIGHT).astype(np.int8)
    transposed = np.ascontiguousarray(rounded.transpose(0, 2, 1))
    zeros = np.zeros_like(scales, np.int8)
    return [(f"{letter}_int8", transposed), (f"{letter}_scale", scales), (f"{letter}_zero", zeros)]
