"""Models of other people that are wrong, each caught by a named check, and questions that cannot be asked."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from onnx import TensorProto, helper

from pipeline.commands import main
from pipeline.verify import verify_model
from tests.verify.foreign_models import LINEAR, WEIGHTS, Y, save, signature, tensor

Write = Callable[[str], str]
FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
SEQUENCE = {"x": (FLOAT, ("batch", "seq"))}


def healthy(path: Path) -> Path:
    return save(path, LINEAR)


def one_weight(path: Path) -> Path:
    changed = WEIGHTS.copy()
    changed[3, 2] += 1e-3
    return save(path, LINEAR, w=changed)


def double_precision(path: Path) -> Path:
    return save(path, LINEAR, {"x": (TensorProto.DOUBLE, ("batch", 4))}, {"y": (TensorProto.DOUBLE, ("batch", 3))},
                w=WEIGHTS.astype(np.float64))  # fmt: skip


def another_name(path: Path) -> Path:
    return save(path, [helper.make_node("MatMul", ["x", "w"], ["z"])], outputs={"z": (FLOAT, ("batch", 3))})


def another_axis_name(path: Path) -> Path:
    return save(path, LINEAR, {"x": (FLOAT, ("rows", 4))}, {"y": (FLOAT, ("rows", 3))})


def specialised(path: Path) -> Path:
    return save(path, LINEAR, {"x": (FLOAT, (1, 4))}, {"y": (FLOAT, (1, 3))})


def traced_batch_in_a_shape(path: Path) -> Path:
    nodes = [helper.make_node("Reshape", ["x", "one_row"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["y"])]
    return save(path, nodes, one_row=np.array([1, 4]))


def mean_of_the_batch(path: Path) -> Path:
    nodes = [LINEAR[0], helper.make_node("ReduceMean", ["y", "rows"], ["z"], keepdims=1)]
    return save(path, nodes, outputs={"z": (FLOAT, ("batch", 3))}, rows=np.array([0]))


def before_y(path: Path, *nodes: tuple[str, list[str], str], **constants: np.ndarray) -> Path:
    """Save the linear model with more nodes between its product ``z`` and its output."""
    made = [helper.make_node(kind, inputs, [output]) for kind, inputs, output in nodes]
    return save(path, [helper.make_node("MatMul", ["x", "w"], ["z"]), *made], **constants)


def noise(path: Path) -> Path:
    steps = ("RandomNormalLike", ["z"], "n"), ("Mul", ["n", "little"], "m"), ("Add", ["z", "m"], "y")
    return before_y(path, *steps, little=np.array(1e-7, np.float32))


def batch_mean_taken_out(path: Path) -> Path:
    steps = ("ReduceMean", ["z", "rows"], "m"), ("Sub", ["z", "m"], "y")
    return before_y(path, *steps, rows=np.array([0]))


def nothing_times_the_batch_mean(path: Path) -> Path:
    steps = ("ReduceMean", ["z", "rows"], "m"), ("Mul", ["m", "zero"], "n"), ("Add", ["z", "n"], "y")
    return before_y(path, *steps, rows=np.array([0]), zero=np.array(0, np.float32))


def always_infinite(path: Path) -> Path:
    return before_y(path, ("Mul", ["z", "infinity"], "y"), infinity=np.array(np.inf, np.float32))


FAULTS = [
    (one_weight, healthy, "drawn y"),
    (double_precision, healthy, "dtypes"),
    (another_name, healthy, "names"),
    (another_axis_name, healthy, "axes"),
    (specialised, healthy, "axes"),
    (traced_batch_in_a_shape, healthy, "drawn answers"),
    (noise, healthy, "repeated"),
    (batch_mean_taken_out, batch_mean_taken_out, "mixed y"),
    (nothing_times_the_batch_mean, healthy, "hostile neighbours y"),
    (always_infinite, always_infinite, "drawn y"),
]


@pytest.mark.parametrize(("fault", "reference", "caught_by"), FAULTS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_planted_fault_is_caught_by_name_against_another_onnx_file(
    fault: Callable[[Path], Path], reference: Callable[[Path], Path], caught_by: str, tmp_path: Path
) -> None:
    report = verify_model(fault(tmp_path / "new.onnx"), str(reference(tmp_path / "old.onnx")))
    assert caught_by in {check.name for check in report.checks if not check.passed}
    assert json.loads((tmp_path / "new.parity.json").read_text())["passed"] is False


def invoke(*words: object) -> Result:
    return CliRunner().invoke(main, ["verify", *map(str, words)])


def test_one_changed_weight_exits_3_with_the_output_the_place_and_the_tolerance_that_would_pass(
    tmp_path: Path,
) -> None:
    new, old = one_weight(tmp_path / "new.onnx"), healthy(tmp_path / "old.onnx")
    result = invoke("--model", new, "--reference", old)
    assert result.exit_code == 3
    assert "not verified: cpu drawn y. See" in result.stderr
    (line,) = (line for line in result.stdout.splitlines() if line.startswith("FAIL"))
    assert "worst at batch 64, y[" in line
    needed = line.partition("--absolute ")[2].split(";")[0]
    assert invoke("--model", new, "--reference", old, "--absolute", needed).exit_code == 0


def test_the_worst_row_that_is_kept_gives_the_worst_values_again(tmp_path: Path) -> None:
    report = verify_model(one_weight(tmp_path / "new.onnx"), str(healthy(tmp_path / "old.onnx")))
    (worst,) = (check.measured["worst"] for check in report.checks if check.name == "drawn y")
    again = np.array(worst["inputs"]["x"], np.float32) @ WEIGHTS
    assert again[0, worst["index"][1]] == pytest.approx(worst["reference"])
    assert worst["candidate"] - worst["reference"] == pytest.approx(1e-3 * worst["inputs"]["x"][0][3], rel=1e-2)


def two_outputs(path: Path, *order: str) -> Path:
    nodes = [LINEAR[0], helper.make_node("ArgMax", ["y"], ["label"], axis=1, keepdims=0)]
    outputs = {"y": Y["y"], "label": (INT64, ("batch",))}
    return save(path, nodes, outputs={name: outputs[name] for name in order})


def test_outputs_in_another_order_are_caught(tmp_path: Path) -> None:
    new, old = two_outputs(tmp_path / "new.onnx", "label", "y"), two_outputs(tmp_path / "old.onnx", "y", "label")
    (check,) = verify_model(new, str(old)).checks
    assert not check.passed
    assert check.detail == f"outputs are in another order: label, y; {old} declares y, label"


REFERENCES = f"""
import numpy as np
W = np.array({WEIGHTS.tolist()}, np.float32)
def swapped(x): return (x @ W).argmax(1), x @ W
def one_of_two(x): return x @ W
def misnamed(x): return {{"y": x @ W, "labels": (x @ W).argmax(1)}}
def least(x): return x @ W, (x @ W).argmin(1)
def words(x): return x @ W, (x @ W).argmax(1).astype(str)
def columns(x): return x @ W, (x @ W).argmax(1)[:, None]
"""


@pytest.mark.parametrize(
    ("function", "caught_by", "message"),
    [
        ("swapped", "drawn shapes", "gives float32 as label; the model INT64"),
        ("one_of_two", "drawn shapes", "gives 1 outputs; the model has y, label"),
        ("misnamed", "drawn shapes", "gives y, labels; the model has y, label"),
        ("least", "drawn label", "74 of 74 values differ; worst at batch 1, label[0]"),
        ("words", "drawn shapes", "gives object as label; the model INT64"),
        ("columns", "drawn shapes", "label is [1], the reference gives [1, 1]; 4 such in 4 cases"),
    ],
)
def test_a_reference_that_gives_something_else_fails_the_model(
    function: str, caught_by: str, message: str, module: Write, tmp_path: Path
) -> None:
    path = two_outputs(tmp_path / "two.onnx", "y", "label")
    found = {check.name: check for check in verify_model(path, f"{module(REFERENCES)}:{function}").checks}
    assert not found[caught_by].passed
    assert message in found[caught_by].detail


def test_a_number_that_is_not_finite_at_one_length_is_caught_there(module: Write, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["length"], start=1),
        helper.make_node("Equal", ["length", "seven"], ["is_cursed"]),
        helper.make_node("Where", ["is_cursed", "nan", "x"], ["y"]),
    ]
    constants = {"seven": np.array([7]), "nan": np.array(np.nan, np.float32)}
    path = save(tmp_path / "cursed.onnx", nodes, SEQUENCE, {"y": (FLOAT, ("batch", "seq"))}, **constants)
    report = verify_model(path, f"{module('def same(x): return x')}:same")
    found = {check.name: check for check in report.checks}
    assert report.failures == ["cpu drawn y"]
    assert found["drawn y"].measured["worst"]["case"] == "batch 1, seq 7"
    assert "518 values are not finite; worst at batch 1, seq 7, y[0, 0]: nan" in found["drawn y"].detail


def test_whole_numbers_are_compared_to_the_last_digit(module: Write, tmp_path: Path) -> None:
    same = (INT64, ("batch",))
    path = save(tmp_path / "ids.onnx", [helper.make_node("Add", ["x", "one"], ["y"])], {"x": same}, {"y": same},
                one=np.array(1))  # fmt: skip
    declared = signature(tmp_path / "s.json", [tensor("x", "INT64", "batch", least=2**60, most=2**61)],
                         [tensor("y", "INT64", "batch")])  # fmt: skip
    name = module("def right(x): return x + 1\ndef wrong(x): return x + (x % 8 != 0)")
    assert verify_model(path, f"{name}:right", signature=declared).passed
    assert "drawn y" in str(verify_model(path, f"{name}:wrong", signature=declared).failures)


def test_texts_are_drawn_from_more_than_one_script(module: Write, tmp_path: Path) -> None:
    text = (STRING, ("batch",))
    nodes = [helper.make_node("StringConcat", ["x", "end"], ["y"])]
    path = save(tmp_path / "text.onnx", nodes, {"x": text}, {"y": text}, end=np.array(["!"], object))
    code = "def right(x): return [t + '!' for t in x]\ndef ascii(x): return [t + '!' * t.isascii() for t in x]"
    name = module(code)
    assert verify_model(path, f"{name}:right").passed
    assert "cpu drawn y" in verify_model(path, f"{name}:ascii").failures


def test_outputs_without_a_value_are_nothing_compared_and_fail(module: Write, tmp_path: Path) -> None:
    nodes = [helper.make_node("Slice", ["x", "zero", "zero", "one"], ["y"])]
    places = {"zero": np.array([0]), "one": np.array([1])}
    path = save(tmp_path / "empty.onnx", nodes, outputs={"y": (FLOAT, ("batch", 0))}, **places)
    found = {check.name: check for check in verify_model(path, f"{module('def f(x): return x[:, :0]')}:f").checks}
    assert found["drawn y"].detail == "nothing was compared"
    assert not found["drawn y"].passed


def test_an_axis_that_is_not_what_it_is_called_is_caught(module: Write, tmp_path: Path) -> None:
    nodes = [helper.make_node("Concat", ["x", "x"], ["y"], axis=0)]
    path = save(tmp_path / "twice.onnx", nodes, outputs={"y": (FLOAT, ("batch", 4))})
    code = "import numpy as np\ndef twice(x): return np.concatenate([x, x])"
    found = {check.name: check for check in verify_model(path, f"{module(code)}:twice").checks}
    assert "at batch 1: y is [2, 4], declared [1, 4]" in found["drawn shapes"].detail


def test_a_shape_that_depends_on_the_values_is_no_traceback(module: Write, tmp_path: Path) -> None:
    """Every row is cut to the number of positive numbers in its batch, which the name of the axis hides."""
    nodes = [
        helper.make_node("Greater", ["x", "zero"], ["is_positive"]),
        helper.make_node("Cast", ["is_positive"], ["ones"], to=INT64),
        helper.make_node("ReduceMax", ["ones", "rows"], ["columns"], keepdims=0),
        helper.make_node("ReduceSum", ["columns", "rows"], ["count"], keepdims=1),
        helper.make_node("Slice", ["x", "start", "count", "second"], ["y"]),
    ]
    constants = {
        "zero": np.array(0, np.float32),
        "rows": np.array([0]),
        "start": np.array([0]),
        "second": np.array([1]),
    }
    path = save(tmp_path / "cut.onnx", nodes, outputs={"y": (FLOAT, ("batch", "kept"))}, **constants)
    report = verify_model(path, f"{module('def cut(x): return x[:, : (x > 0).any(0).sum()]')}:cut")
    assert report.failures == ["cpu company"]
    assert "shapes for single rows" in report.checks[-1].detail


def test_an_engine_that_is_not_there_is_a_failure_not_a_fallback(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    path = healthy(tmp_path / "m.onnx")
    assert verify_model(path, str(path), engines=("cuda",)).failures == ["cuda load"]


DECLARED = {
    "axis 1 without a name": (("batch", None), "x: axis 1 is dynamic and has no name: name it in --signature"),
    "a batch of one": ((1, 4), "no input's first axis is dynamic (x [1, 4]): specialised to one batch size?"),
}


@pytest.mark.parametrize(("shape", "message"), DECLARED.values(), ids=DECLARED)
def test_axes_that_nothing_declares_are_refused(
    shape: tuple[int | str | None, ...], message: str, module: Write, tmp_path: Path
) -> None:
    path = save(tmp_path / "m.onnx", [helper.make_node("Identity", ["x"], ["y"])], {"x": (FLOAT, shape)},
                {"y": (FLOAT, shape)})  # fmt: skip
    result = invoke("--model", path, "--reference", f"{module('def same(x): return x')}:same")
    assert result.exit_code == 3
    assert f"FAIL  graph                  axes                {message}" in result.stdout
    assert "not verified: graph axes" in result.stderr


@pytest.mark.parametrize(
    ("inputs", "outputs", "failing", "message"),
    [
        (("x", "FP32", "batch", 4), ("y", "FP64", "batch", 3), "dtypes", "y is FP32; s.json declares FP64"),
        (("x", "FP32", "rows", 4), ("y", "FP32", "rows", 3), "axes", "x is [batch, 4]; s.json declares [rows, 4]"),
        (("x", "FP32", "batch", 4), ("y", "FP32", 1, 3), "axes", "y is [batch, 3]; s.json declares [1, 3]"),
        (("x", "FP32", "batch", 4), ("z", "FP32", "batch", 3), "names", "outputs are y; s.json declares z"),
    ],
)
def test_the_signature_is_what_the_graph_is_held_to(
    inputs: tuple, outputs: tuple, failing: str, message: str, module: Write, tmp_path: Path
) -> None:
    name = module(REFERENCES)
    declared = signature(Path("s.json"), [tensor(*inputs)], [tensor(*outputs)])
    report = verify_model(healthy(Path("m.onnx")), f"{name}:one_of_two", signature=declared)
    assert report.failures == [f"graph {failing}"]
    assert message in report.checks[-1].detail
