import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pipeline.errors import RunError
from pipeline.export import export
from pipeline.reference import Reference
from pipeline.run_directory import RunDirectory
from pipeline.runtime import open_session
from pipeline.signature import Signature, Tensor

TEXT_OPERATORS = {
    "ArgMax", "Cast", "Concat", "Gather", "Gemm", "Greater", "LSTM", "LabelEncoder", "Less", "Max",
    "Pad", "Range", "ReduceMax", "ReduceSum", "RegexFullMatch", "Reshape", "Shape", "Slice", "Softmax", "Squeeze",
    "StringConcat", "StringNormalizer", "StringSplit", "Tokenizer", "Transpose", "Unsqueeze", "Where",
}  # fmt: skip


def test_the_graph_holds_one_lstm_node_and_only_the_operators_we_know(exported_run: RunDirectory) -> None:
    nodes = onnx.load(exported_run / "model.onnx").graph.node
    counts = Counter(node.op_type for node in nodes)
    assert counts["LSTM"] == 1
    assert set(counts) == TEXT_OPERATORS
    assert {node.domain for node in nodes} == {"", "ai.onnx.ml", "com.microsoft"}


def test_lstm_weights_are_stored_in_onnx_order_and_go_straight_into_the_node(exported_run: RunDirectory) -> None:
    graph = onnx.load(exported_run / "model.onnx").graph
    (node,) = (node for node in graph.node if node.op_type == "LSTM")
    initializers = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weights = [initializers[name] for name in node.input[1:4]]
    (layer,) = Reference.load(exported_run).model.layers
    hidden = layer.hidden_size
    for direction, module in enumerate(layer.directions):
        gates = module.weight_ih_l0.detach().numpy().reshape(4, hidden, -1)
        assert np.array_equal(weights[0][direction].reshape(4, hidden, -1), gates[[0, 3, 1, 2]])
    assert node.input[4]


def test_the_file_is_self_contained_and_old_enough_for_the_oldest_runtime(exported_run: RunDirectory) -> None:
    model = onnx.load(exported_run / "model.onnx", load_external_data=False)
    onnx.checker.check_model(exported_run / "model.onnx", full_check=True)
    assert model.ir_version <= 10
    assert {item.domain: item.version for item in model.opset_import}[""] <= 20
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in model.graph.initializer)


def test_the_signature_declares_the_text_contract(exported_run: RunDirectory) -> None:
    signature = Signature.load(exported_run / "signature.json")
    assert signature.inputs == (Tensor("text", "STRING", ("batch", 1)),)
    assert signature.outputs == (
        Tensor("probabilities", "FP32", ("batch", 2)),
        Tensor("label", "STRING", ("batch", 1)),
        Tensor("valid", "BOOL", ("batch", 1)),
    )
    assert signature.classes == ("blame", "praise")


def test_the_signature_declares_the_feature_contract(verified_feature_run: RunDirectory) -> None:
    signature = Signature.load(verified_feature_run / "signature.json")
    assert signature.inputs == (
        Tensor("features", "FP32", ("batch", "seq", 2)),
        Tensor("lengths", "INT64", ("batch", 1)),
    )
    assert [tensor.name for tensor in signature.outputs] == ["probabilities", "label", "valid"]
    assert signature.feature_size == 2


def test_the_same_run_gives_the_same_bytes(exported_run: RunDirectory, copy_of) -> None:
    run = copy_of(exported_run)
    before = (run / "model.onnx").read_bytes()
    export(run)
    assert (run / "model.onnx").read_bytes() == before


@pytest.mark.parametrize("length", [-5, 0, 99, 2**40])
def test_a_length_out_of_range_is_brought_inside_and_harms_no_neighbour(
    length: int, verified_feature_run: RunDirectory
) -> None:
    session = open_session(verified_feature_run / "model.onnx")
    features = np.random.default_rng(0).normal(size=(2, 6, 2)).astype(np.float32)

    def ask(rows: slice, lengths: list[int]) -> np.ndarray:
        feed = {"features": features[rows], "lengths": np.array(lengths, np.int64)[:, None]}
        return session.run(["probabilities"], feed)[0]

    together = ask(slice(None), [4, length])
    assert np.abs(together[:1] - ask(slice(0, 1), [4])).max() <= 1e-6
    assert np.abs(together[1:] - ask(slice(1, 2), [min(max(length, 1), 6)])).max() <= 1e-6


def ask(run: RunDirectory, features: np.ndarray, lengths: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    feed = {"features": features, "lengths": np.array(lengths, np.int64)[:, None]}
    return open_session(run / "model.onnx").run(["probabilities", "label", "valid"], feed)


def test_a_batch_without_frames_is_answered_as_one_frame_of_zeros(verified_feature_run: RunDirectory) -> None:
    empty = ask(verified_feature_run, np.zeros((2, 0, 2), np.float32), [0, 5])
    zeros = ask(verified_feature_run, np.zeros((2, 1, 2), np.float32), [1, 1])
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(empty, zeros, strict=True))


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_frames_that_are_not_numbers_are_not_valid_and_change_no_neighbour(
    number: float, verified_feature_run: RunDirectory
) -> None:
    features = np.random.default_rng(0).normal(size=(2, 6, 2)).astype(np.float32)
    expected = ask(verified_feature_run, features[:1], [6])
    features[1, 2, 0] = number
    probabilities, _, valid = ask(verified_feature_run, features, [6, 6])
    assert valid[:, 0].tolist() == [True, False]
    assert np.isfinite(probabilities).all()
    assert np.abs(probabilities[:1] - expected[0]).max() <= 1e-6
    assert ask(verified_feature_run, features, [6, 2])[2][:, 0].tolist() == [True, True]  # it stands in the padding


@pytest.mark.parametrize("number", [3e38, -3e38])
def test_numbers_however_large_give_finite_answers(number: float, verified_feature_run: RunDirectory) -> None:
    probabilities, _, valid = ask(verified_feature_run, np.full((1, 4, 2), number, np.float32), [4])
    assert np.isfinite(probabilities).all()
    assert valid.all()


def test_export_needs_a_trained_run(tmp_path: Path, trained_run: RunDirectory, copy_of) -> None:
    run = copy_of(trained_run)
    (run / "weights.safetensors").unlink()
    with pytest.raises(RunError, match="weights.safetensors: missing"):
        export(run)


def test_the_command_line_is_quiet_but_for_the_path(trained_run: RunDirectory, copy_of) -> None:
    run = copy_of(trained_run)
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "export", str(run.path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{run.path}/model.onnx\n"
    assert done.stderr == ""
