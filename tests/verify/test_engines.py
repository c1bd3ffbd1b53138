"""Engines by name: any pair agrees, each is caught when it does not, and none but the default pair gates publish."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from pipeline.commands import main
from pipeline.errors import CheckFailed
from pipeline.publish import publish
from pipeline.run_directory import RunDirectory
from pipeline.runtime import CPU, CUDA
from pipeline.verify import Check, ParityReport, verify
from pipeline.verify.evaluator import GRU, LSTM
from pipeline.verify.named import SESSIONS, TOLERANCES, tolerance
from pipeline.verify.placement import placement, profile
from tests.verify.planted import one_embedding_row, plant, wrong_activations


def by_engine(checks: tuple[Check, ...]) -> dict[str, set[str]]:
    return {engine: {check.name for check in checks if check.engine == engine} for engine in {c.engine for c in checks}}


def failing(report: ParityReport) -> set[tuple[str, str]]:
    return {(check.engine, check.name) for check in report.engine_checks if not check.passed}


@pytest.mark.parametrize(
    ("run_fixture", "names"),
    [
        ("exported_run", ("pytorch-float64", "cpu-none", "cpu-basic", "cpu-extended", "evaluator")),
        ("verified_feature_run", ("cpu-none", "evaluator")),
    ],
)
def test_engines_of_every_kind_agree_and_are_recorded_apart(
    run_fixture: str, names: tuple[str, ...], copy_of, request: pytest.FixtureRequest
) -> None:
    report = verify(copy_of(request.getfixturevalue(run_fixture)), engines=("cpu", *names))
    assert not report.failures
    assert set(by_engine(report.checks)) == {"files", "cpu"}, "the default pair is made once"
    asked = by_engine(report.engine_checks)
    assert set(asked) == set(names)
    assert asked["evaluator"] == {"small grid"}
    assert {"grid", "held-out rows", "padded", "mixed", "hostile neighbours"} <= asked["cpu-none"]
    (small,) = (check for check in report.engine_checks if check.name == "small grid")
    assert small.measured["rows"] == 3 * 3 * (1 + 2 + 7)


def test_any_engine_can_be_the_reference(exported_run: RunDirectory, copy_of) -> None:
    run = copy_of(exported_run)
    command = ["verify", str(run.path), "--engine", "pytorch", "--engine", "cpu-none", "--against", "evaluator"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    assert "pass  pytorch against evaluator small grid" in result.stdout
    record = json.loads((run / "parity.json").read_text())
    assert {check["engine"] for check in record["engine_checks"]} == {
        "pytorch against evaluator",
        "cpu-none against evaluator",
    }


def test_a_pair_that_agrees_does_not_make_a_bad_run_publishable(
    exported_run: RunDirectory, copy_of, tmp_path: Path
) -> None:
    run = copy_of(exported_run)
    plant(run, one_embedding_row)
    report = verify(run, engines=("cpu",), against="cpu-none")
    assert report.engine_checks
    assert not failing(report), "both run the same wrong file"
    assert not report.passed
    with pytest.raises(CheckFailed, match="verification failed; nothing unverified is served"):
        publish(run, tmp_path)


def test_a_provider_that_is_not_there_fails_and_bars_no_good_run_from_publish(
    exported_run: RunDirectory, copy_of, tmp_path: Path
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    run = copy_of(exported_run)
    result = CliRunner().invoke(main, ["verify", str(run.path), "--engine", "cuda", "--engine", "cuda-tf32"])
    assert result.exit_code == 3
    assert "not verified: cuda load, cuda-tf32 load" in result.stderr
    assert "CUDAExecutionProvider" in result.stdout, "a failure, not a fallback"
    assert publish(run, tmp_path).is_dir()


def test_against_alone_asks_the_cpu_and_catches_what_it_does_wrongly(exported_run: RunDirectory, copy_of) -> None:
    run = copy_of(exported_run)
    plant(run, wrong_activations)  # which ONNX Runtime obeys and the evaluator does not read
    assert failing(verify(run, against="evaluator")) == {("cpu against evaluator", "small grid")}


def test_an_engine_of_another_name_is_a_usage_error(exported_run: RunDirectory) -> None:
    for option in ("--engine", "--against"):
        result = CliRunner().invoke(main, ["verify", str(exported_run.path), option, "gpu"])
        assert result.exit_code == 2
        assert "gpu: no engine; there are pytorch, pytorch-float64, cpu" in result.stderr


def test_an_engine_against_itself_is_a_usage_error(exported_run: RunDirectory) -> None:
    result = CliRunner().invoke(main, ["verify", str(exported_run.path), "--engine", "pytorch"])
    assert result.exit_code == 2
    assert "--engine pytorch --against pytorch: an engine always agrees with itself" in result.stderr


def test_a_pair_is_allowed_what_the_coarser_of_the_two_is() -> None:
    assert tolerance("cpu", "pytorch").absolute == 1e-5
    assert tolerance("cuda", "pytorch").absolute == tolerance("cpu", "cuda").absolute == 1e-4
    assert tolerance("cuda-tf32", "cuda") == TOLERANCES["cuda-tf32"]
    assert SESSIONS["cuda-tf32"]["tf32"]
    assert not SESSIONS["cuda"].get("tf32", False)


def test_a_node_that_fell_back_to_the_cpu_is_named(exported_run: RunDirectory) -> None:
    events = profile(exported_run / "model.onnx", ["the film is lovely", ""], {})
    assert placement("cpu", CPU, events).passed
    check = placement("cuda", CUDA, events)
    assert not check.passed
    assert "classifier/node__symbolic on CPUExecutionProvider" in check.detail, "the LSTM"
    assert {"classifier/node_embedding", "classifier/node_linear"} <= set(check.measured["elsewhere"])
    assert not {"Tokenizer", "LabelEncoder", "Shape"} & {name.split("_")[0] for name in check.measured["elsewhere"]}
    assert "tokenizer/vocabulary" not in check.measured["elsewhere"], "texts belong on the CPU"


def test_a_profile_without_work_places_nothing() -> None:
    assert not placement("cuda", CUDA, []).passed


def recurrent_model(kind: str, gates: int) -> onnx.ModelProto:
    generator = np.random.default_rng(0)
    constants = {
        "W": generator.normal(size=(2, gates * 4, 3)),
        "R": generator.normal(size=(2, gates * 4, 4)),
        "B": generator.normal(size=(2, 2 * gates * 4)),
    }
    more = {"linear_before_reset": 1} if kind == "GRU" else {}
    node = helper.make_node(
        kind, ["X", "W", "R", "B", "lengths"], ["Y"], direction="bidirectional", hidden_size=4, **more
    )
    graph = helper.make_graph(
        [node],
        "one",
        [
            helper.make_tensor_value_info("X", TensorProto.FLOAT, ["T", "B", 3]),
            helper.make_tensor_value_info("lengths", TensorProto.INT32, ["B"]),
        ],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, ["T", 2, "B", 4])],
        [onnx.numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize(("kind", "gates"), [("LSTM", 4), ("GRU", 3)])
def test_the_evaluator_ends_each_row_at_its_length_as_onnx_itself_does_not(kind: str, gates: int) -> None:
    model = recurrent_model(kind, gates)
    generator = np.random.default_rng(1)
    feed = {"X": generator.normal(size=(6, 3, 3)).astype(np.float32), "lengths": np.array([6, 1, 4], np.int32)}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=[CPU])
    (expected,) = session.run(None, feed)
    (given,) = ReferenceEvaluator(model, new_ops=[LSTM, GRU]).run(None, feed)
    assert np.abs(expected - given).max() < 1e-6
    (plain,) = ReferenceEvaluator(model).run(None, feed)
    assert np.abs(expected - plain).max() > 1e-2, "onnx reads sequence_lens now: evaluator.py can go"
