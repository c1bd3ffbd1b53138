"""Healthy models of other people: every kind of reference, of data type and of shape, and none rejected."""

import json
import runpy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from onnx import TensorProto, helper

from pipeline.commands import main
from pipeline.files import sha256_of
from pipeline.verify import Check, ModelReport, verify_model
from pipeline.verify.foreign.draw import draw
from pipeline.verify.foreign.spec import ModelSpec, TensorSpec
from tests.verify.foreign_models import LINEAR, WEIGHTS, export, save, signature, tensor

Write = Callable[[str], str]
TAGGER = """
import torch

class Tagger(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(50, 8)
        self.lstm = torch.nn.LSTM(8, 6, batch_first=True)
        self.head = torch.nn.Linear(6, 3)
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, token_ids, lengths):
        states, _ = self.lstm(self.embedding(token_ids))
        is_token = torch.arange(token_ids.shape[1])[None] < lengths
        pooled = (states * is_token[:, :, None]).sum(1) / lengths
        probabilities = torch.softmax(self.head(self.dropout(pooled)), 1)
        return probabilities, probabilities.argmax(1)

torch.manual_seed(0)
model = Tagger()
double = Tagger()
double.load_state_dict(model.state_dict())
double.double()
"""


def checks(report: ModelReport) -> dict[str, Check]:
    assert report.passed, [f"{check.name}: {check.detail}" for check in report.checks if not check.passed]
    return {check.name: check for check in report.checks}


def test_an_lstm_over_tokens_is_tried_at_every_combination_of_its_axes(module: Write, tmp_path: Path) -> None:
    name = module(TAGGER)
    declared = signature(
        tmp_path / "signature.json",
        [tensor("token_ids", "INT64", "batch", "seq", most=49),
         tensor("lengths", "INT64", "batch", 1, least=1, most="seq")],
        [tensor("probabilities", "FP32", "batch", 3), tensor("label", "INT64", "batch")],
    )  # fmt: skip
    model = runpy.run_path(f"{name}.py")["model"]
    batch, seq = torch.export.Dim("batch"), torch.export.Dim("seq")
    path = export(
        tmp_path / "tagger.onnx", model,
        [torch.ones(2, 5, dtype=torch.int64), torch.full((2, 1), 3)], ({0: batch, 1: seq}, {0: batch}),
        input_names=["token_ids", "lengths"], output_names=["probabilities", "label"],
    )  # fmt: skip
    found = checks(verify_model(path, f"{name}:model", signature=declared))
    assert found["drawn answers"].detail == "as declared in 16 of 16 cases"
    assert found["drawn probabilities"].measured["rows"] == 4 * (1 + 2 + 7 + 64)
    assert found["drawn label"].measured["values"] == 4 * (1 + 2 + 7 + 64)
    assert {"mixed label", "shuffled probabilities", "repeated"} <= set(found)
    assert "hostile neighbours label" not in found, "it takes no floats"
    in_double = checks(verify_model(path, f"{name}:double", signature=declared))
    worst = in_double["drawn probabilities"].measured["worst"]
    assert len(worst["inputs"]["token_ids"]) == 1, "the worst row is kept alone"


CONVOLUTION = """
import torch
torch.manual_seed(0)
model = torch.nn.Conv1d(2, 3, 3)
"""


def test_a_convolution_needs_sizes_that_it_can_take_and_names_its_output_axis_itself(
    module: Write, tmp_path: Path
) -> None:
    name = module(CONVOLUTION)
    torch.manual_seed(0)
    batch, seq = torch.export.Dim("batch"), torch.export.Dim("seq", min=3)
    path = export(tmp_path / "convolution.onnx", torch.nn.Conv1d(2, 3, 3), [torch.randn(2, 2, 9)],
                  ({0: batch, 2: seq},), input_names=["x"], output_names=["y"])  # fmt: skip
    result = CliRunner().invoke(main, ["verify", "--model", str(path), "--reference", f"{name}:model"])
    assert result.exit_code == 1
    assert "(at batch 1, seq 1). Sizes that it takes are given with --axis." in result.stderr
    assert not path.with_suffix(".parity.json").exists()
    found = checks(verify_model(path, f"{name}:model", sizes={"seq": (3, 4, 9, 65)}))
    assert found["drawn y"].measured["rows"] == 4 * (1 + 2 + 7 + 64)


CLASSIFIER = f"""
import numpy as np
WEIGHTS = np.array({WEIGHTS.tolist()}, np.float32)
NAMES = np.array(["red", "green", "blue"])

class Classifier:
    def predict_proba(self, rows):
        scores = np.exp(rows.astype(float) @ WEIGHTS)
        return scores / scores.sum(1, keepdims=True)

    def predict(self, rows):
        return NAMES[self.predict_proba(rows).argmax(1)]

class Regressor:
    def predict(self, rows):
        return rows.astype(float) @ WEIGHTS[:, 0]

classifier, regressor = Classifier(), Regressor()
"""


def test_an_estimator_answers_numbers_with_predict_proba_and_labels_with_predict(module: Write, tmp_path: Path) -> None:
    """As scikit-learn's converter makes it: axes without names, labels of one axis."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["number"], axis=1, keepdims=0),
        helper.make_node("LabelEncoder", ["number"], ["label"], domain="ai.onnx.ml",
                         keys_int64s=[0, 1, 2], values_strings=["red", "green", "blue"]),
    ]  # fmt: skip
    path = save(
        tmp_path / "classifier.onnx", nodes, {"x": (TensorProto.FLOAT, (None, 4))},
        {"label": (TensorProto.STRING, (None,)), "probabilities": (TensorProto.FLOAT, (None, 3))},
    )  # fmt: skip
    np.savez(tmp_path / "rows.npz", x=np.random.default_rng(0).normal(size=(150, 4)), labels=np.zeros(150))
    found = checks(verify_model(path, f"{module(CLASSIFIER)}:classifier", rows=tmp_path / "rows.npz"))
    assert found["axes"].detail == "[batch, 4] → [batch], [batch, 3], as the graph itself says; rows lie along batch"
    assert found["given label"].measured["values"] == 150
    assert found["given answers"].detail == "as declared in 6 of 6 cases", "rows of 1, 2, 7, 64, 64 and 12"


def test_a_regressor_of_one_axis_is_compared_with_a_column(module: Write, tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "column"], ["y"])]
    path = save(tmp_path / "regressor.onnx", nodes, outputs={"y": (TensorProto.FLOAT, ("batch", 1))},
                column=WEIGHTS[:, :1].copy())  # fmt: skip
    checks(verify_model(path, f"{module(CLASSIFIER)}:regressor"))


FUNCTIONS = f"""
import numpy as np
WEIGHTS = np.array({WEIGHTS.tolist()}, np.float32)

def positional(rows):
    rows += 0
    rows @= np.eye(4, dtype=np.float32)  # its arguments are its own
    return rows @ WEIGHTS

def by_keyword(*, unused=None, x):
    return {{"y": x @ WEIGHTS}}

def listed(rows):
    return (rows @ WEIGHTS).tolist()

def made():
    return lambda rows: [rows @ WEIGHTS]

class Holder:
    def __call__(self, rows):
        return ((rows @ WEIGHTS),)

class Namespace:
    holder = Holder()
"""


@pytest.mark.parametrize("function", ["positional", "by_keyword", "listed", "made", "Namespace.holder"])
def test_any_function_may_be_the_reference(function: str, module: Write, tmp_path: Path) -> None:
    path = save(tmp_path / "linear.onnx", LINEAR)
    found = checks(verify_model(path, f"{module(FUNCTIONS)}:{function}"))
    assert found["drawn y"].measured["allowed"] == 1e-5


@pytest.mark.parametrize("dtype", ["FLOAT16", "DOUBLE", "INT32", "INT8", "UINT8", "BOOL", "STRING", "UINT64"])
def test_every_data_type_is_drawn_and_compared(dtype: str, module: Write, tmp_path: Path) -> None:
    kind = TensorProto.DataType.Value(dtype)
    path = save(tmp_path / "same.onnx", [helper.make_node("Identity", ["x"], ["y"])],
                {"x": (kind, ("batch", "seq"))}, {"y": (kind, ("batch", "seq"))})  # fmt: skip
    named = {"FLOAT16": "FP16", "DOUBLE": "FP64"}.get(dtype, dtype)
    limits = {"most": 2**31 - 1} if dtype in ("INT32", "UINT64") else {}
    declared = signature(tmp_path / "s.json", [tensor("x", named, "batch", "seq", **limits)],
                         [tensor("y", named, "batch", "seq")])  # fmt: skip
    reference = f"{module('def same(x): return x')}:same"
    found = checks(verify_model(path, reference, signature=declared, sizes={"seq": (1, 9)}))
    assert found["drawn y"].measured["values"] == (1 + 2 + 7 + 64) * (1 + 9)


def test_rows_may_lie_along_any_axis_that_is_called_batch(module: Write, tmp_path: Path) -> None:
    """Time first: a running sum over time, which no shuffling of time would leave alone."""
    nodes = [helper.make_node("CumSum", ["x", "zero"], ["y"])]
    shape = (TensorProto.FLOAT, ("seq", "batch", 2))
    path = save(tmp_path / "sum.onnx", nodes, {"x": shape}, {"y": shape}, zero=np.array(0))
    np.savez(tmp_path / "rows.npz", x=np.ones((5, 12, 2), np.float32))
    reference = f"{module('def total(x): return x.cumsum(0)')}:total"
    found = checks(verify_model(path, reference, rows=tmp_path / "rows.npz"))
    assert found["given answers"].detail == "as declared in 4 of 4 cases"
    assert found["shuffled y"].measured["rows"] == 5


def test_rows_that_are_steps_of_one_sequence_may_depend_on_each_other_if_the_signature_says_so(
    module: Write, tmp_path: Path
) -> None:
    shape = (TensorProto.FLOAT, ("seq", 2))
    nodes = [helper.make_node("CumSum", ["x", "zero"], ["y"])]
    path = save(tmp_path / "sum.onnx", nodes, {"x": shape}, {"y": shape}, zero=np.array(0))
    reference = f"{module('def total(x): return x.cumsum(0)')}:total"
    report = verify_model(path, reference)
    assert "cpu shuffled y" in report.failures
    assert "rows lie along seq, unless --signature says batch_axis" in report.checks[2].detail
    declared = signature(
        tmp_path / "s.json", [tensor("x", "FP32", "seq", 2)], [tensor("y", "FP32", "seq", 2)], batch_axis=None
    )
    found = checks(verify_model(path, reference, signature=declared))
    assert found["axes"].detail.endswith("; no axis that rows lie along")
    assert set(found) == {"names", "dtypes", "axes", "drawn answers", "drawn shapes", "drawn y"}


def test_a_reference_may_come_from_the_environment(module: Write, tmp_path: Path) -> None:
    path = save(tmp_path / "tanh.onnx", [helper.make_node("Tanh", ["x"], ["y"])],
                outputs={"y": (TensorProto.FLOAT, ("batch", 4))})  # fmt: skip
    checks(verify_model(path, "numpy:tanh"))


def test_a_fixed_shape_that_is_declared_is_tried_as_it_is(module: Write, tmp_path: Path) -> None:
    path = save(tmp_path / "fixed.onnx", LINEAR, {"x": (TensorProto.FLOAT, (1, 4))}, {"y": (TensorProto.FLOAT, (1, 3))})
    declared = signature(tmp_path / "s.json", [tensor("x", "FP32", 1, 4)], [tensor("y", "FP32", 1, 3)])
    found = checks(verify_model(path, f"{module(FUNCTIONS)}:positional", signature=declared))
    assert found["drawn answers"].detail == "as declared in 1 of 1 cases"
    assert not any(name.startswith("mixed") for name in found)


def test_labels_may_differ_only_where_the_two_largest_numbers_are_a_tie(module: Write, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Clip", ["x", "low", "high"], ["y"]),
        helper.make_node("ArgMax", ["y"], ["label"], axis=1, keepdims=0, select_last_index=1),
    ]
    outputs = {"y": (TensorProto.FLOAT, ("batch", 4)), "label": (TensorProto.INT64, ("batch",))}
    limits = {"low": np.array(-1, np.float32), "high": np.array(1, np.float32)}
    path = save(tmp_path / "tied.onnx", nodes, outputs=outputs, **limits)
    code = "import numpy as np\ndef first(x):\n    y = np.clip(x, -1, 1)\n    return y, y.argmax(1)"
    found = checks(verify_model(path, f"{module(code)}:first"))
    assert found["drawn label"].measured["tied"] > 0
    assert found["drawn label"].measured["differing"] == 0


def test_the_record_names_every_file_and_setting_and_the_command_prints_it(module: Write, tmp_path: Path) -> None:
    path = save(tmp_path / "new.onnx", LINEAR)
    old = save(tmp_path / "old.onnx", LINEAR)
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="new.data", size_threshold=0)
    words = ["verify", "--model", str(path), "--reference", str(old), "--axis", "batch=1,3", "--relative", "0.001"]
    result = CliRunner().invoke(main, [*words, "--json", "--output", "record.json"])
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    assert record == json.loads((tmp_path / "record.json").read_text())
    assert record["hashes"] == {str(file): sha256_of(file) for file in (path, tmp_path / "new.data", old)}
    assert record["sizes"] == {"batch": [1, 3]}
    assert record["tolerance"] == {"absolute": 1e-5, "relative": 1e-3}
    assert record["signature"]["outputs"][0]["shape"] == ["batch", 3]
    assert "pass  graph" in result.stderr


def test_what_is_drawn_depends_on_the_sizes_alone() -> None:
    spec = ModelSpec(
        (TensorSpec("ids", "INT32", ("batch", "seq"), 2, 9), TensorSpec("lengths", "INT64", ("batch", 1), 1, "seq")), ()
    )
    first, again, other = (draw(spec, {"batch": 50, "seq": seq}).inputs for seq in (7, 7, 8))
    assert first["ids"].dtype == np.int32
    assert np.array_equal(first["ids"], again["ids"])
    assert not np.array_equal(first["ids"], other["ids"][:, :7])
    assert (first["ids"].min(), first["ids"].max()) == (2, 9)
    assert (first["lengths"].min(), first["lengths"].max()) == (1, 7)
