"""Models as others make them: by PyTorch's exporter, or node by node."""

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

Shape = Sequence[int | str | None]
Tensors = Mapping[str, tuple[int, Shape]]

WEIGHTS = np.random.default_rng(5).normal(size=(4, 3)).astype(np.float32)
X = {"x": (TensorProto.FLOAT, ("batch", 4))}
Y = {"y": (TensorProto.FLOAT, ("batch", 3))}
LINEAR = [helper.make_node("MatMul", ["x", "w"], ["y"])]


def save(
    path: Path, nodes: Sequence[onnx.NodeProto], inputs: Tensors = X, outputs: Tensors = Y, **constants: np.ndarray
) -> Path:
    """Save a graph of nodes; `w` is always among its constants."""
    stored = {"w": WEIGHTS, **constants}
    graph = helper.make_graph(
        list(nodes),
        "elsewhere",
        [helper.make_tensor_value_info(name, *tensor) for name, tensor in inputs.items()],
        [helper.make_tensor_value_info(name, *tensor) for name, tensor in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def export(path: Path, module: torch.nn.Module, examples: Sequence[torch.Tensor], dynamic: Any, **names: Any) -> Path:
    """Export as PyTorch's users do; what its exporter warns of is not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(), tuple(examples), path, dynamo=True, verbose=False, dynamic_shapes=dynamic, **names
        )
    return path


def signature(
    path: Path, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]], **more: Any
) -> Path:
    path.write_text(json.dumps({"inputs": list(inputs), "outputs": list(outputs), **more}))
    return path


def tensor(name: str, dtype: str, *shape: int | str, **limits: float | str) -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "shape": list(shape), **limits}
