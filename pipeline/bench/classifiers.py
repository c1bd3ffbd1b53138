"""One trained text classifier in several engines, asked alike: from texts or from token ids to labels."""

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper

from pipeline import gate
from pipeline.bench.plain import PlainClassifier
from pipeline.errors import PipelineError, UsageError
from pipeline.reference import Reference
from pipeline.runtime import CPU, open_session
from pipeline.sequences import Sequences, feed
from pipeline.signature import BATCH, SEQ
from pipeline.tokenizer import Tokenizer

PYTORCH, FP32, OPENVINO = "pytorch", "fp32", "openvino"

Tokens = tuple[np.ndarray, np.ndarray]
"""Token ids, (B, T) int64, and lengths, (B,) int64."""
FromText = Callable[[list[str]], np.ndarray]
"""Texts to their labels, (B,) strings."""
FromTokens = Callable[[Tokens], np.ndarray]
"""Token ids to their labels, (B,) numbers."""


def from_tokens(reference: Reference, threads: int, *, openvino: bool) -> dict[str, FromTokens]:
    """Return every engine's answer to token ids: PyTorch, ONNX Runtime with each kept variant, and OpenVINO.

    Raises:
        UsageError: the model has no plain PyTorch form.
        PipelineError: OpenVINO is not installed.
    """
    engines = {PYTORCH: _pytorch(reference)}
    for name, path in _models(reference).items():
        engines[name] = _onnxruntime(classifier_part(onnx.load(path)), threads)
    if openvino:
        model = classifier_part(onnx.load(reference.run.require("model.onnx")))
        engines[OPENVINO] = _openvino(model, threads)
    return engines


def from_text(reference: Reference, threads: int, tokens: dict[str, FromTokens]) -> dict[str, FromText]:
    """Return every engine's answer to texts: ONNX Runtime's in one graph, the others' after the run's own tokenizer."""
    assert reference.tokenizer is not None  # noqa: S101 - the caller refuses runs that read features
    classes = np.array(reference.signature.classes)
    models = _models(reference)
    engines: dict[str, FromText] = {}
    for name, answer in tokens.items():
        if name in models:
            engines[name] = _whole(models[name], threads)
        else:
            engines[name] = _after_tokenizer(reference.tokenizer, answer, classes)
    return engines


def classifier_part(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the part of an exported text model from token ids to probabilities: operators that every engine has."""
    needed, nodes = {"probabilities"}, list[onnx.NodeProto]()
    for node in reversed(model.graph.node):
        if needed & set(node.output) and not {"token_ids", "lengths"} & set(node.output):
            nodes.insert(0, node)
            needed |= set(node.input)
    inputs = [
        helper.make_tensor_value_info("token_ids", TensorProto.INT64, [BATCH, SEQ]),
        helper.make_tensor_value_info("lengths", TensorProto.INT64, [BATCH, 1]),
    ]
    outputs = [output for output in model.graph.output if output.name == "probabilities"]
    weights = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    graph = helper.make_graph(nodes, "classifier", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def import_openvino() -> ModuleType:
    """Return OpenVINO, which nothing else here needs.

    Raises:
        PipelineError: it is not installed.
    """
    try:
        return importlib.import_module("openvino")
    except ImportError as error:
        raise PipelineError("openvino: not installed. `pip install openvino`, or leave --openvino out.") from error


def _models(reference: Reference) -> dict[str, Path]:
    run = reference.run
    kept = {record["name"]: run.require(gate.PRECISIONS[record["name"]].file) for record in gate.kept(run)}
    on_cpu = {name: path for name, path in kept.items() if gate.PRECISIONS[name].provider == CPU}
    return {FP32: run.require("model.onnx"), **on_cpu}


def _pytorch(reference: Reference) -> FromTokens:
    """Answer as the tutorials do: eager, float32, `pack_padded_sequence` and one `nn.LSTM`."""
    ours = reference.model
    vocabulary_size, size = ours.embedding.weight.shape  # type: ignore[misc]
    try:
        model = PlainClassifier(reference.recipe, vocabulary_size, size, ours.head.out_features, "packed")
    except UsageError as error:
        raise UsageError(f"{reference.run.path}: no nn.LSTM between embedding and pooling alone: {error}") from error
    model.take_weights(ours)
    model.eval()

    @torch.inference_mode()
    def answer(tokens: Tokens) -> np.ndarray:
        labels: np.ndarray = model(*map(torch.from_numpy, tokens)).softmax(1).argmax(1).numpy()
        return labels

    return answer


def _onnxruntime(model: onnx.ModelProto, threads: int) -> FromTokens:
    session = open_session(model.SerializeToString(), threads=threads)

    def answer(tokens: Tokens) -> np.ndarray:
        inputs = {"token_ids": tokens[0], "lengths": tokens[1][:, None]}
        labels: np.ndarray = session.run(["probabilities"], inputs)[0].argmax(1)
        return labels

    return answer


def _openvino(model: onnx.ModelProto, threads: int) -> FromTokens:
    """Answer with everything but the number of threads at its default: bfloat16 where the processor has it."""
    core = import_openvino().Core()
    settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads} if threads else {}
    request = core.compile_model(core.read_model(model.SerializeToString()), "CPU", settings).create_infer_request()

    def answer(tokens: Tokens) -> np.ndarray:
        inputs = {"token_ids": tokens[0], "lengths": tokens[1][:, None]}
        labels: np.ndarray = request.infer(inputs)[0].argmax(1)
        return labels

    return answer


def _whole(path: Path, threads: int) -> FromText:
    session = open_session(path, threads=threads)

    def answer(texts: list[str]) -> np.ndarray:
        labels: np.ndarray = session.run(["label"], feed("text", texts))[0][:, 0]
        return labels

    return answer


def _after_tokenizer(tokenizer: Tokenizer, answer: FromTokens, classes: np.ndarray) -> FromText:
    def answer_text(texts: list[str]) -> np.ndarray:
        return np.asarray(classes[answer(padded(tokenizer.encode(texts), np.arange(len(texts))))])

    return answer_text


def padded(sequences: Sequences, indices: np.ndarray) -> Tokens:
    """Return some sequences as one batch, as wide as its longest."""
    token_ids, lengths = sequences.padded(indices)
    return token_ids, lengths.astype(np.int64)
