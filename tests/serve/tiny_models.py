"""Tiny repositories made by hand: a text model and a feature model, and whatever a test wants to break."""

from pathlib import Path

import numpy as np
from google.protobuf import text_format
from onnx import ModelProto, TensorProto, helper, numpy_helper
from tritonclient.grpc import model_config_pb2 as triton

from pipeline.tokenizer import UTF8

CLASSES = ("bad", "fine", "good")
WORDS = ("awful", "dull", "fine", "good", "great")
FEATURES = 3


def text_model(seed: int = 0, is_flat: bool = False, is_guarded: bool = True, toil: int = 0) -> ModelProto:
    """Text to probabilities: the sum of a vector for each word. The form of the real graph, without the LSTM.

    A flat one takes texts of shape (B) and gives labels of shape (B); Triton's `reshape` hides that from callers.
    One that is not guarded fails on a text that is not UTF-8. One that toils multiplies matrices so many times for each
    row, and adds nothing of it to the answer.
    """
    nodes = [
        helper.make_node("StringConcat", ["text", "nul"], ["ended"]),
        helper.make_node("StringSplit", ["ended"], ["parts", "n_parts"], delimiter=b"\0", maxsplit=1),
        helper.make_node("Gather", ["parts", "first"], ["cut"], axis=2),
        helper.make_node("RegexFullMatch", ["cut"], ["valid"], pattern=UTF8),
        helper.make_node("Where", ["valid", "cut", "empty" if is_guarded else "cut"], ["safe"]),
        helper.make_node("Squeeze", ["safe", "axis_one"], ["flat"]),
        helper.make_node("StringNormalizer", ["flat"], ["lower"], case_change_action="LOWER", locale="C.UTF-8"),
        helper.make_node(
            "Tokenizer", ["lower"], ["tokens"], domain="com.microsoft",
            mark=0, mincharnum=1, pad_value="  ", tokenexp=r"[^\p{Z}\p{C}]+",
        ),
        helper.make_node(
            "LabelEncoder", ["tokens"], ["token_ids"], domain="ai.onnx.ml",
            keys_strings=["  ", *WORDS], values_int64s=[0, *range(2, 2 + len(WORDS))], default_int64=1,
        ),
        helper.make_node("Gather", ["vectors", "token_ids"], ["embedded"]),
        helper.make_node("ReduceSum", ["embedded", "axis_one"], ["summed" if toil else "logits"], keepdims=0),
        *(_toil(toil) if toil else ()),
        *_head(),
    ]  # fmt: skip
    vectors = np.random.default_rng(seed).normal(size=(2 + len(WORDS), len(CLASSES))).astype(np.float32)
    vectors[0] = 0
    constants = {"first": np.array(0), "axis_one": np.array([1]), "vectors": vectors}
    if toil:
        noise = np.random.default_rng(seed).normal(0, 512**-0.5, (512, 512)).astype(np.float32)
        constants |= {"nothing": np.array(0, np.float32), "axes": np.array([1, 2]), "noise": noise}
    inputs = [helper.make_tensor_value_info("text", TensorProto.STRING, ["batch", 1])]
    outputs = _outputs()
    if is_flat:
        inputs = [helper.make_tensor_value_info("texts", TensorProto.STRING, ["batch"])]
        outputs[1] = helper.make_tensor_value_info("labels", TensorProto.STRING, ["batch"])
        nodes.insert(0, helper.make_node("Unsqueeze", ["texts", "axis_one"], ["text"]))
        nodes.append(helper.make_node("Squeeze", ["label", "axis_one"], ["labels"]))
    return _model(nodes, inputs, outputs, constants)


def feature_model(seed: int = 0) -> ModelProto:
    """Frames to probabilities: the sum of the frames within the length, times a matrix. Every row is valid."""
    nodes = [
        helper.make_node("Shape", ["features"], ["seq"], start=1, end=2),
        helper.make_node("Squeeze", ["seq"], ["size"]),
        helper.make_node("Range", ["zero", "size", "one"], ["steps"]),
        helper.make_node("Less", ["steps", "lengths"], ["mask"]),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Where", ["column", "features", "nothing"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "axis_one"], ["summed"], keepdims=0),
        helper.make_node("MatMul", ["summed", "weights"], ["logits"]),
        helper.make_node("GreaterOrEqual", ["lengths", "zero"], ["valid"]),
        *_head(),
    ]
    weights = np.random.default_rng(seed).normal(size=(FEATURES, len(CLASSES))).astype(np.float32)
    constants = {"zero": np.array(0), "one": np.array(1), "last": np.array([-1]), "axis_one": np.array([1])}
    constants |= {"nothing": np.array(0, np.float32), "weights": weights}
    inputs = [
        helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", "seq", FEATURES]),
        helper.make_tensor_value_info("lengths", TensorProto.INT64, ["batch", 1]),
    ]
    return _model(nodes, inputs, _outputs(), constants)


def witness_model(is_text: bool) -> ModelProto:
    """Text or frames to the shape of what the model was run on: for each row, how many rows and steps there were."""
    if is_text:
        inputs = [helper.make_tensor_value_info("text", TensorProto.STRING, ["batch", 1])]
    else:
        inputs = feature_model().graph.input
    nodes = [
        helper.make_node("Shape", [inputs[0].name], ["shape"], end=2),
        helper.make_node("Slice", ["shape", "zero", "one"], ["batch"]),
        helper.make_node("Concat", ["batch", "two"], ["wanted"], axis=0),
        helper.make_node("Expand", ["shape", "wanted"], ["run"]),
    ]
    if not is_text:  # it must read what it is given
        nodes.append(helper.make_node("Identity", ["lengths"], ["ignored"]))
    outputs = [helper.make_tensor_value_info("run", TensorProto.INT64, ["batch", 2])]
    return _model(nodes, inputs, outputs, {"zero": np.array([0]), "one": np.array([1]), "two": np.array([2])})


def witness_config(name: str, is_text: bool) -> triton.ModelConfig:
    """The configuration of a witness."""
    config = text_config(name) if is_text else feature_config(name)
    del config.output[:]
    config.output.add(name="run", data_type=triton.TYPE_INT64, dims=[2])
    return config


def text_config(name: str, **changes: object) -> triton.ModelConfig:
    """The configuration of a text model, as `publish` writes it."""
    config = _config(name, **changes)
    config.input.add(name="text", data_type=triton.TYPE_STRING, dims=[1])
    return config


def flat_config(name: str) -> triton.ModelConfig:
    """The configuration of a flat text model: one text a row outside, a plain list of texts inside."""
    config = text_config(name)
    config.input[0].name, config.output[1].name = "texts", "labels"
    config.input[0].reshape.SetInParent()
    config.output[1].reshape.SetInParent()
    return config


def feature_config(name: str, **changes: object) -> triton.ModelConfig:
    """The configuration of a feature model, as `publish` writes it."""
    config = _config(name, **changes)
    config.input.add(name="features", data_type=triton.TYPE_FP32, dims=[-1, FEATURES])
    config.input.add(name="lengths", data_type=triton.TYPE_INT64, dims=[1])
    return config


def place(repository: Path, config: triton.ModelConfig, content: bytes, version: int = 1) -> Path:
    """Put a version into a repository as `publish` does: written aside, then renamed into place."""
    folder = repository / config.name
    staging = folder / f".staging-{version}"
    staging.mkdir(parents=True)
    (staging / (config.default_model_filename or "model.onnx")).write_bytes(content)
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    if not (folder / "config.pbtxt").exists():
        (folder / "config.pbtxt").write_text(text_format.MessageToString(config))
    return staging.rename(folder / str(version))


def _config(name: str, **changes: object) -> triton.ModelConfig:
    config = triton.ModelConfig(name=name, backend="onnxruntime", max_batch_size=64)
    config.version_policy.latest.num_versions = 1
    config.output.add(
        name="probabilities", data_type=triton.TYPE_FP32, dims=[len(CLASSES)], label_filename="labels.txt"
    )
    config.output.add(name="label", data_type=triton.TYPE_STRING, dims=[1])
    config.output.add(name="valid", data_type=triton.TYPE_BOOL, dims=[1])
    config.dynamic_batching.max_queue_delay_microseconds = 0
    config.dynamic_batching.default_queue_policy.max_queue_size = 1024
    config.instance_group.add(count=1, kind=triton.ModelInstanceGroup.KIND_AUTO)
    config.parameters["intra_op_thread_count"].string_value = "1"
    config.parameters["classes"].string_value = '["bad", "fine", "good"]'
    config.MergeFrom(triton.ModelConfig(**changes))
    return config


def _toil(times: int) -> list:
    """Nodes from ``summed`` to ``logits``, equal to it, by way of products of matrices for each row."""
    products = [
        helper.make_node("MatMul", [f"work_{number}", "noise"], [f"work_{number + 1}"]) for number in range(times)
    ]
    return [
        helper.make_node("ReduceSum", ["summed", "axis_one"], ["total"]),
        helper.make_node("Unsqueeze", ["total", "axis_one"], ["scalar"]),
        helper.make_node("Mul", ["scalar", "noise"], ["work_0"]),
        *products,
        helper.make_node("ReduceMean", [f"work_{times}", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "nothing"], ["vanished"]),
        helper.make_node("Unsqueeze", ["vanished", "axis_one"], ["row"]),
        helper.make_node("Add", ["summed", "row"], ["logits"]),
    ]


def _head() -> list:
    return [
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
        helper.make_node("ArgMax", ["probabilities"], ["best"], axis=1, keepdims=1),
        helper.make_node(
            "LabelEncoder", ["best"], ["label"], domain="ai.onnx.ml",
            keys_int64s=range(len(CLASSES)), values_strings=CLASSES,
        ),
    ]  # fmt: skip


def _outputs() -> list:
    return [
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", len(CLASSES)]),
        helper.make_tensor_value_info("label", TensorProto.STRING, ["batch", 1]),
        helper.make_tensor_value_info("valid", TensorProto.BOOL, ["batch", 1]),
    ]


def _model(nodes: list, inputs: list, outputs: list, constants: dict[str, np.ndarray]) -> ModelProto:
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    tensors.append(helper.make_tensor("empty", TensorProto.STRING, [], [b""]))
    tensors.append(TensorProto(name="nul", data_type=TensorProto.STRING, string_data=[b"\0"]))
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, tensors)
    domains = {"": 20, "ai.onnx.ml": 4, "com.microsoft": 1}
    opsets = [helper.make_opsetid(name, version) for name, version in domains.items()]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)
