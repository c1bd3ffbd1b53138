"""Tokenizer, classifier and label names in one graph, its tensors named by the signature."""

import onnx
from onnx import TensorProto, compose, helper

from pipeline.signature import Signature, Tensor
from pipeline.tokenizer import IR_VERSION, OPSETS

_TYPES = {
    "STRING": TensorProto.STRING,
    "FP32": TensorProto.FLOAT,
    "INT64": TensorProto.INT64,
    "BOOL": TensorProto.BOOL,
}


def fuse(tokenizer: onnx.ModelProto | None, classifier: onnx.ModelProto, signature: Signature) -> onnx.ModelProto:
    """Join the parts into the model that is served.

    Args:
        tokenizer: gives ``token_ids`` and ``lengths``, which the classifier takes; None for features.
        classifier: gives ``probabilities``.
        signature: names, types and axes of the whole.
    """
    graphs = [_inner_names_prefixed(classifier, "classifier/")]
    if tokenizer is not None:
        graphs.insert(0, _inner_names_prefixed(tokenizer, "tokenizer/"))
    graph = helper.make_graph(
        [*(node for part in graphs for node in part.node), *_label_nodes(signature.classes)],
        f"{signature.interface}_classifier",
        [_value_info(tensor) for tensor in signature.inputs],
        [_value_info(tensor) for tensor in signature.outputs],
        [initializer for part in graphs for initializer in part.initializer],
        value_info=[info for part in graphs for info in part.value_info],
    )
    return helper.make_model(graph, opset_imports=OPSETS, ir_version=IR_VERSION, producer_name="pipeline")


def _inner_names_prefixed(model: onnx.ModelProto, prefix: str) -> onnx.GraphProto:
    """Return a copy of a graph whose inputs and outputs alone keep their names, so that parts join but never clash."""
    return compose.add_prefix_graph(model.graph, prefix, rename_inputs=False, rename_outputs=False)


def _label_nodes(classes: tuple[str, ...]) -> list[onnx.NodeProto]:
    return [
        helper.make_node("ArgMax", ["probabilities"], ["label_number"], name="label/argmax", axis=1, keepdims=1),
        helper.make_node(
            "LabelEncoder",
            ["label_number"],
            ["label"],
            name="label/name",
            domain="ai.onnx.ml",
            keys_int64s=list(range(len(classes))),
            values_strings=list(classes),
        ),
    ]


def _value_info(tensor: Tensor) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(tensor.name, _TYPES[tensor.dtype], tensor.shape)
