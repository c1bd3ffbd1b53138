"""Which provider ran each node, from ONNX Runtime's profile: a node that fell back to the CPU is named."""

import json
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pipeline.runtime import open_session
from pipeline.verify.engines import OnnxEngine, Row
from pipeline.verify.parity_report import Check

HEAVY = {
    "LSTM", "GRU", "RNN", "MatMul", "Gemm", "Conv", "Softmax", "LogSoftmax", "Gather",
    "FusedMatMul", "FusedGemm", "FusedConv", "LayerNormalization", "BatchNormalization", "ReduceMax", "ReduceMean",
    "DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "MatMulInteger", "QLinearMatMul",
}  # fmt: skip
"""Operators that do the work, where they make floating-point numbers; texts and shapes belong on the CPU."""


def profile(model: Path, rows: Sequence[Row], settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the events of answering some rows, as ONNX Runtime's profile holds them.

    Args:
        model: the model file.
        rows: what is asked.
        settings: how the session is opened; see `open_session`.

    Raises:
        PipelineError: the model does not load, or cannot answer.
    """
    with tempfile.TemporaryDirectory() as folder:
        session = open_session(model, **settings, profile=Path(folder) / "profile")
        OnnxEngine(session).answer(rows)
        events: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_text())
    return events


def placement(engine: str, wanted: str, events: Iterable[dict[str, Any]]) -> Check:
    """Check that the provider that was asked for ran every node that does the work.

    Args:
        engine: the engine's name.
        wanted: the execution provider.
        events: of a profile.
    """
    placed = {
        event["name"].removesuffix("_kernel_time"): event["args"]["provider"]
        for event in events
        if event.get("cat") == "Node" and _is_heavy(event["args"])
    }
    elsewhere = {node: provider for node, provider in placed.items() if provider != wanted}
    detail = f"{wanted} ran all {len(placed)} nodes that do the work"
    if elsewhere:
        named = ", ".join(f"{node} on {provider}" for node, provider in elsewhere.items())
        detail = f"wanted {wanted} for all {len(placed)} nodes that do the work, got {named}"
    elif not placed:
        detail = f"wanted nodes that do the work on {wanted}, got none in the profile"
    measured = {"nodes": len(placed), "elsewhere": elsewhere}
    return Check(engine, "placement", bool(placed) and not elsewhere, detail, measured)


def _is_heavy(arguments: dict[str, Any]) -> bool:
    types = {kind for item in arguments.get("output_type_shape", []) for kind in item}
    return arguments.get("op_name") in HEAVY and bool(types & {"float", "float16", "bfloat16", "double"})
