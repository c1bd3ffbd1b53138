"""Faults to plant in an exported text model, each with the check that must catch it."""

import dataclasses
from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper, numpy_helper

from pipeline.files import sha256_of
from pipeline.run_directory import RunDirectory
from pipeline.signature import Signature

Edit = Callable[[onnx.ModelProto], None]


def plant(run: RunDirectory, fault: Edit) -> None:
    """Change a run's model, and make its hash fit."""
    model = onnx.load(run / "model.onnx")
    fault(model)
    onnx.save(model, run / "model.onnx")
    signature = Signature.load(run / "signature.json")
    hashes = {**signature.hashes, "model.onnx": sha256_of(run / "model.onnx")}
    dataclasses.replace(signature, hashes=hashes).save(run / "signature.json")


def initializer(model: onnx.ModelProto, suffix: str) -> onnx.TensorProto:
    (found,) = (tensor for tensor in model.graph.initializer if tensor.name.endswith(suffix))
    return found


def change(model: onnx.ModelProto, suffix: str, edit: Callable[[np.ndarray], None]) -> None:
    tensor = initializer(model, suffix)
    values = numpy_helper.to_array(tensor).copy()
    edit(values)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def node(model: onnx.ModelProto, ending: str) -> onnx.NodeProto:
    (found,) = (node for node in model.graph.node if node.name.endswith(ending) or node.op_type == ending)
    return found


def attribute(found: onnx.NodeProto, name: str) -> onnx.AttributeProto:
    (value,) = (item for item in found.attribute if item.name == name)
    return value


def swap(values: object, first: int, second: int) -> None:
    values[first], values[second] = values[second], values[first]  # type: ignore[index]


def one_weight(model: onnx.ModelProto) -> None:
    change(
        model, "layers.0.R", lambda values: values.__setitem__((0, 3, 2), np.nextafter(values[0, 3, 2], np.float32(9)))
    )


def gates_in_pytorchs_order(model: onnx.ModelProto) -> None:
    def reorder(values: np.ndarray) -> None:
        gates = values.reshape(len(values), 4, -1, values.shape[-1]).copy()
        values[:] = gates[:, [0, 2, 3, 1]].reshape(values.shape)

    change(model, "layers.0.W", reorder)


def one_embedding_row(model: onnx.ModelProto) -> None:
    change(model, "embedding.weight", lambda values: values.__setitem__(-1, values[-1] + 1e-3))


def label_names_swapped(model: onnx.ModelProto) -> None:
    swap(attribute(node(model, "label/name"), "values_strings").strings, 0, 1)


def vocabulary_entries_swapped(model: onnx.ModelProto) -> None:
    swap(attribute(node(model, "vocabulary"), "keys_strings").strings, 1, 2)


def vocabulary_shifted_by_one(model: onnx.ModelProto) -> None:
    numbers = attribute(node(model, "vocabulary"), "values_int64s").ints
    numbers[1:] = [number + 1 for number in numbers[1:-1]] + [2]


def no_lower_casing(model: onnx.ModelProto) -> None:
    attribute(node(model, "StringNormalizer"), "case_change_action").s = b"NONE"


def unknown_words_read_as_padding(model: onnx.ModelProto) -> None:
    attribute(node(model, "vocabulary"), "default_int64").i = 0


def lengths_ignored(model: onnx.ModelProto) -> None:
    node(model, "LSTM").input[4] = ""


def invalid_bytes_not_caught(model: onnx.ModelProto) -> None:
    attribute(node(model, "RegexFullMatch"), "pattern").s = b"(?s).*"


def softmax_over_the_batch(model: onnx.ModelProto) -> None:
    attribute(node(model, "Softmax"), "axis").i = 0


def label_of_another_rank(model: onnx.ModelProto) -> None:
    attribute(node(model, "label/argmax"), "keepdims").i = 0
    del model.graph.output[1].type.tensor_type.shape.dim[1]


def fp16_weights(model: onnx.ModelProto) -> None:
    for suffix in ("layers.0.W", "layers.0.R", "embedding.weight"):
        change(model, suffix, lambda values: values.__setitem__(..., values.astype(np.float16)))


def int8_with_a_wrong_scale(model: onnx.ModelProto) -> None:
    def quantise(values: np.ndarray) -> None:
        scale = np.abs(values).max() / 127
        values[:] = np.round(values / scale) * scale * 1.02

    change(model, "layers.0.W", quantise)


def backward_direction_lost(model: onnx.ModelProto) -> None:
    change(model, "layers.0.W", lambda values: values.__setitem__(1, 0))


def forget_gate_closed(model: onnx.ModelProto) -> None:
    def close(values: np.ndarray) -> None:
        size = values.shape[1] // 8
        values[:, 2 * size : 3 * size] = 0

    change(model, "layers.0.B", close)


def wrong_activations(model: onnx.ModelProto) -> None:
    node(model, "LSTM").attribute.append(helper.make_attribute("activations", ["Sigmoid", "Tanh", "Sigmoid"] * 2))


def one_bit_of_one_weight(model: onnx.ModelProto) -> None:
    change(
        model,
        "head.weight",
        lambda values: values.view(np.uint32).__setitem__((0, 0), values.view(np.uint32)[0, 0] ^ 1),
    )


def temperature_lost(model: onnx.ModelProto) -> None:
    change(model, "head.weight", lambda values: values.__imul__(1.1))


def classes_permuted(model: onnx.ModelProto) -> None:
    for suffix in ("head.weight", "head.bias"):
        change(model, suffix, lambda values: values.__setitem__(..., values[::-1].copy()))


def padding_pooled(model: onnx.ModelProto) -> None:
    node(model, "ReduceMax").input[0] = node(model, "/node_where").input[1]


def last_padded_step_taken(model: onnx.ModelProto) -> None:
    pool = node(model, "ReduceMax")
    model.graph.initializer.append(numpy_helper.from_array(np.array(-1), "last"))
    steps, pooled = node(model, "/node_where").input[1], pool.output[0]
    pool.CopyFrom(helper.make_node("Gather", [steps, "last"], [pooled], axis=1))


def traced_batch_in_a_shape(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "one_row"))
    (shape,) = (found for found in model.graph.node if found.op_type == "Concat" and "classifier" in found.name)
    shape.input[0] = "one_row"


def traced_batch_in_the_initial_state(model: onnx.ModelProto) -> None:
    found = node(model, "LSTM")
    size = attribute(found, "hidden_size").i
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((2, 2, size), np.float32), "h"))
    found.input.append("h")


def one_token_less(model: onnx.ModelProto) -> None:
    change(model, "max_tokens", lambda values: values.__isub__(1))


def least_likely_label(model: onnx.ModelProto) -> None:
    node(model, "label/argmax").op_type = "ArgMin"


def after(model: onnx.ModelProto, nodes: list[onnx.NodeProto], **constants: np.ndarray) -> None:
    """Let nodes make ``probabilities`` of ``before``, which the softmax made."""
    softmax = node(model, "Softmax")
    softmax.output[0] = "before"
    place = list(model.graph.node).index(softmax) + 1
    for number, added in enumerate(nodes):
        model.graph.node.insert(place + number, added)
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())


def nan_at_one_length(model: onnx.ModelProto) -> None:
    nodes = [
        helper.make_node("Equal", ["lengths", "seventeen"], ["is_cursed"]),
        helper.make_node("Where", ["is_cursed", "nan", "before"], ["probabilities"]),
    ]
    after(model, nodes, seventeen=np.array(17), nan=np.array(np.nan, np.float32))


def noise_left_on(model: onnx.ModelProto) -> None:
    nodes = [
        helper.make_node("RandomNormalLike", ["before"], ["noise"], scale=1e-7),
        helper.make_node("Add", ["before", "noise"], ["probabilities"]),
    ]
    after(model, nodes)


def batch_mean_taken_out(model: onnx.ModelProto) -> None:
    nodes = [
        helper.make_node("ReduceMean", ["before", "rows"], ["mean"], keepdims=1),
        helper.make_node("Mul", ["mean", "little"], ["little_mean"]),
        helper.make_node("Sub", ["before", "little_mean"], ["probabilities"]),
    ]
    after(model, nodes, rows=np.array([0]), little=np.array(4e-6, np.float32))


def valid_turned_round(model: onnx.ModelProto) -> None:
    found = node(model, "RegexFullMatch")
    found.output[0] = "is_text"
    place = list(model.graph.node).index(found) + 1
    model.graph.node.insert(place, helper.make_node("Not", ["is_text"], ["valid"]))
    (chosen,) = (node for node in model.graph.node if node.op_type == "Where" and node.input[0] == "valid")
    chosen.input[0] = "is_text"


def operators_of_a_later_release(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 22  # Triton 24.10 reads 21


FAULTS: list[tuple[Edit, str]] = [
    (one_weight, "weights"),
    (one_bit_of_one_weight, "weights"),
    (gates_in_pytorchs_order, "grid"),
    (forget_gate_closed, "grid"),
    (wrong_activations, "grid"),
    (backward_direction_lost, "grid"),
    (fp16_weights, "vocabulary"),
    (int8_with_a_wrong_scale, "grid"),
    (one_embedding_row, "vocabulary"),
    (temperature_lost, "held-out rows"),
    (classes_permuted, "held-out rows"),
    (label_names_swapped, "held-out rows"),
    (least_likely_label, "held-out rows"),
    (vocabulary_entries_swapped, "graph"),
    (vocabulary_entries_swapped, "vocabulary"),
    (vocabulary_shifted_by_one, "vocabulary"),
    (no_lower_casing, "held-out rows"),
    (one_token_less, "grid"),
    (unknown_words_read_as_padding, "hostile texts"),
    (valid_turned_round, "held-out rows"),
    (invalid_bytes_not_caught, "answers"),
    (lengths_ignored, "grid"),
    (padding_pooled, "grid"),
    (last_padded_step_taken, "grid"),
    (traced_batch_in_a_shape, "answers"),
    (traced_batch_in_the_initial_state, "answers"),
    (softmax_over_the_batch, "mixed"),
    (batch_mean_taken_out, "mixed"),
    (nan_at_one_length, "grid"),
    (noise_left_on, "repeated"),
    (label_of_another_rank, "answers"),
    (operators_of_a_later_release, "graph"),
]
