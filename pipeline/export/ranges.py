"""What enters each recurrent layer of an exported model: the range that its int8 form is made for."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from pipeline.export.lower import Range, recurrent_nodes
from pipeline.runtime import open_session
from pipeline.sequences import feed
from pipeline.signature import Interface

_STEP = 256  # ranges are widened to a multiple of 1/256: another processor's last bit gives the same file


def entering(model: onnx.ModelProto, interface: Interface, rows: Sequence[Any], size: int) -> dict[str, Range]:
    """Measure the smallest and the largest number that enters each recurrent layer; padding does not count."""
    nodes = recurrent_nodes(model)
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    names = list(dict.fromkeys(name for node in nodes for name in (node.input[0], node.input[4])))
    kinds = {node.input[4]: TensorProto.INT32 for node in nodes}
    watched.graph.output.extend(
        helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), None) for name in names
    )
    session = open_session(watched.SerializeToString())
    found: dict[str, Range] = {node.name: (0.0, 0.0) for node in nodes}
    for start in range(0, len(rows), size):
        values = dict(zip(names, session.run(names, feed(interface, rows[start : start + size])), strict=True))
        for node in nodes:
            steps, lengths = values[node.input[0]], values[node.input[4]]  # (T, B, I), (B,)
            inside = steps[np.arange(len(steps))[:, None] < lengths]
            low, high = found[node.name]
            found[node.name] = min(low, float(inside.min())), max(high, float(inside.max()))
    return {name: _rounded_outwards(low, high) for name, (low, high) in found.items()}


def _rounded_outwards(low: float, high: float) -> Range:
    return float(np.floor(low * _STEP) / _STEP), float(np.ceil(high * _STEP) / _STEP)
