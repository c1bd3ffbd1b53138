import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import helper, numpy_helper

from pipeline import recipe
from pipeline.commands import main
from pipeline.errors import CheckFailed, RequestError, ServerError
from pipeline.export import export
from pipeline.files import sha256_of
from pipeline.publish import publish
from pipeline.run_directory import RunDirectory
from pipeline.serve import running
from pipeline.signature import Signature
from pipeline.train import train
from pipeline.verify import ParityReport, verify
from pipeline.verify.cases import Batch
from pipeline.verify.checks import batch_invariance, parity, repeatability
from pipeline.verify.compare import Answers, Distance, Tolerance, flips
from tests.conftest import QUICK_TEXT

Edit = Callable[[onnx.ModelProto], None]


def failed(report: ParityReport) -> set[str]:
    return {check.name for check in (*report.checks, *report.endpoint_checks) if not check.passed}


def initializer(model: onnx.ModelProto, suffix: str) -> onnx.TensorProto:
    (found,) = (tensor for tensor in model.graph.initializer if tensor.name.endswith(suffix))
    return found


def change(model: onnx.ModelProto, suffix: str, edit: Callable[[np.ndarray], None]) -> None:
    tensor = initializer(model, suffix)
    values = numpy_helper.to_array(tensor).copy()
    edit(values)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def node(model: onnx.ModelProto, ending: str) -> onnx.NodeProto:
    (found,) = (node for node in model.graph.node if node.name.endswith(ending) or node.op_type == ending)
    return found


def attribute(found: onnx.NodeProto, name: str) -> onnx.AttributeProto:
    (value,) = (item for item in found.attribute if item.name == name)
    return value


def swap(values: object, first: int, second: int) -> None:
    values[first], values[second] = values[second], values[first]  # type: ignore[index]


def one_weight(model: onnx.ModelProto) -> None:
    change(
        model, "layers.0.R", lambda values: values.__setitem__((0, 3, 2), np.nextafter(values[0, 3, 2], np.float32(9)))
    )


def gates_in_pytorchs_order(model: onnx.ModelProto) -> None:
    def reorder(values: np.ndarray) -> None:
        gates = values.reshape(len(values), 4, -1, values.shape[-1]).copy()
        values[:] = gates[:, [0, 2, 3, 1]].reshape(values.shape)

    change(model, "layers.0.W", reorder)


def one_embedding_row(model: onnx.ModelProto) -> None:
    change(model, "embedding.weight", lambda values: values.__setitem__(-1, values[-1] + 1e-3))


def label_names_swapped(model: onnx.ModelProto) -> None:
    swap(attribute(node(model, "label/name"), "values_strings").strings, 0, 1)


def vocabulary_entries_swapped(model: onnx.ModelProto) -> None:
    swap(attribute(node(model, "vocabulary"), "keys_strings").strings, 1, 2)


def vocabulary_shifted_by_one(model: onnx.ModelProto) -> None:
    numbers = attribute(node(model, "vocabulary"), "values_int64s").ints
    numbers[1:] = [number + 1 for number in numbers[1:-1]] + [2]


def no_lower_casing(model: onnx.ModelProto) -> None:
    attribute(node(model, "StringNormalizer"), "case_change_action").s = b"NONE"


def unknown_words_read_as_padding(model: onnx.ModelProto) -> None:
    attribute(node(model, "vocabulary"), "default_int64").i = 0


def lengths_ignored(model: onnx.ModelProto) -> None:
    node(model, "LSTM").input[4] = ""


def invalid_bytes_not_caught(model: onnx.ModelProto) -> None:
    attribute(node(model, "RegexFullMatch"), "pattern").s = b"(?s).*"


def softmax_over_the_batch(model: onnx.ModelProto) -> None:
    attribute(node(model, "Softmax"), "axis").i = 0


def label_of_another_rank(model: onnx.ModelProto) -> None:
    attribute(node(model, "label/argmax"), "keepdims").i = 0
    del model.graph.output[1].type.tensor_type.shape.dim[1]


def fp16_weights(model: onnx.ModelProto) -> None:
    for suffix in ("layers.0.W", "layers.0.R", "embedding.weight"):
        change(model, suffix, lambda values: values.__setitem__(..., values.astype(np.float16)))


def int8_with_a_wrong_scale(model: onnx.ModelProto) -> None:
    def quantise(values: np.ndarray) -> None:
        scale = np.abs(values).max() / 127
        values[:] = np.round(values / scale) * scale * 1.02

    change(model, "layers.0.W", quantise)


def backward_direction_lost(model: onnx.ModelProto) -> None:
    change(model, "layers.0.W", lambda values: values.__setitem__(1, 0))


def forget_gate_closed(model: onnx.ModelProto) -> None:
    def close(values: np.ndarray) -> None:
        size = values.shape[1] // 8
        values[:, 2 * size : 3 * size] = 0

    change(model, "layers.0.B", close)


def wrong_activations(model: onnx.ModelProto) -> None:
    node(model, "LSTM").attribute.append(helper.make_attribute("activations", ["Sigmoid", "Tanh", "Sigmoid"] * 2))


def one_bit_of_one_weight(model: onnx.ModelProto) -> None:
    change(
        model,
        "head.weight",
        lambda values: values.view(np.uint32).__setitem__((0, 0), values.view(np.uint32)[0, 0] ^ 1),
    )


def temperature_lost(model: onnx.ModelProto) -> None:
    change(model, "head.weight", lambda values: values.__imul__(1.1))


def classes_permuted(model: onnx.ModelProto) -> None:
    for suffix in ("head.weight", "head.bias"):
        change(model, suffix, lambda values: values.__setitem__(..., values[::-1].copy()))


def padding_pooled(model: onnx.ModelProto) -> None:
    node(model, "ReduceMax").input[0] = node(model, "/node_where").input[1]


def last_padded_step_taken(model: onnx.ModelProto) -> None:
    pool = node(model, "ReduceMax")
    model.graph.initializer.append(numpy_helper.from_array(np.array(-1), "last"))
    steps, pooled = node(model, "/node_where").input[1], pool.output[0]
    pool.CopyFrom(helper.make_node("Gather", [steps, "last"], [pooled], axis=1))


def traced_batch_in_a_shape(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "one_row"))
    (shape,) = (found for found in model.graph.node if found.op_type == "Concat" and "classifier" in found.name)
    shape.input[0] = "one_row"


def traced_batch_in_the_initial_state(model: onnx.ModelProto) -> None:
    found = node(model, "LSTM")
    size = attribute(found, "hidden_size").i
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((2, 2, size), np.float32), "h"))
    found.input.append("h")


def one_token_less(model: onnx.ModelProto) -> None:
    change(model, "max_tokens", lambda values: values.__isub__(1))


def least_likely_label(model: onnx.ModelProto) -> None:
    node(model, "label/argmax").op_type = "ArgMin"


def after(model: onnx.ModelProto, nodes: list[onnx.NodeProto], **constants: np.ndarray) -> None:
    """Let nodes make ``probabilities`` of ``before``, which the softmax made."""
    softmax = node(model, "Softmax")
    softmax.output[0] = "before"
    place = list(model.graph.node).index(softmax) + 1
    for number, added in enumerate(nodes):
        model.graph.node.insert(place + number, added)
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())


def nan_at_one_length(model: onnx.ModelProto) -> None:
    nodes = [
        helper.make_node("Equal", ["lengths", "seventeen"], ["is_cursed"]),
        helper.make_node("Where", ["is_cursed", "nan", "before"], ["probabilities"]),
    ]
    after(model, nodes, seventeen=np.array(17), nan=np.array(np.nan, np.float32))


def noise_left_on(model: onnx.ModelProto) -> None:
    nodes = [
        helper.make_node("RandomNormalLike", ["before"], ["noise"], scale=1e-7),
        helper.make_node("Add", ["before", "noise"], ["probabilities"]),
    ]
    after(model, nodes)


def batch_mean_taken_out(model: onnx.ModelProto) -> None:
    nodes = [
        helper.make_node("ReduceMean", ["before", "rows"], ["mean"], keepdims=1),
        helper.make_node("Mul", ["mean", "little"], ["little_mean"]),
        helper.make_node("Sub", ["before", "little_mean"], ["probabilities"]),
    ]
    after(model, nodes, rows=np.array([0]), little=np.array(4e-6, np.float32))


def valid_turned_round(model: onnx.ModelProto) -> None:
    found = node(model, "RegexFullMatch")
    found.output[0] = "is_text"
    place = list(model.graph.node).index(found) + 1
    model.graph.node.insert(place, helper.make_node("Not", ["is_text"], ["valid"]))
    (chosen,) = (node for node in model.graph.node if node.op_type == "Where" and node.input[0] == "valid")
    chosen.input[0] = "is_text"


def operators_of_a_later_release(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 21


FAULTS: list[tuple[Edit, str]] = [
    (one_weight, "weights"),
    (one_bit_of_one_weight, "weights"),
    (gates_in_pytorchs_order, "grid"),
    (forget_gate_closed, "grid"),
    (wrong_activations, "grid"),
    (backward_direction_lost, "grid"),
    (fp16_weights, "vocabulary"),
    (int8_with_a_wrong_scale, "grid"),
    (one_embedding_row, "vocabulary"),
    (temperature_lost, "held-out rows"),
    (classes_permuted, "held-out rows"),
    (label_names_swapped, "held-out rows"),
    (least_likely_label, "held-out rows"),
    (vocabulary_entries_swapped, "graph"),
    (vocabulary_entries_swapped, "vocabulary"),
    (vocabulary_shifted_by_one, "vocabulary"),
    (no_lower_casing, "held-out rows"),
    (one_token_less, "grid"),
    (unknown_words_read_as_padding, "hostile texts"),
    (valid_turned_round, "held-out rows"),
    (invalid_bytes_not_caught, "answers"),
    (lengths_ignored, "grid"),
    (padding_pooled, "grid"),
    (last_padded_step_taken, "grid"),
    (traced_batch_in_a_shape, "answers"),
    (traced_batch_in_the_initial_state, "answers"),
    (softmax_over_the_batch, "mixed"),
    (batch_mean_taken_out, "mixed"),
    (nan_at_one_length, "grid"),
    (noise_left_on, "repeated"),
    (label_of_another_rank, "answers"),
    (operators_of_a_later_release, "graph"),
]


@pytest.mark.parametrize(("fault", "caught_by"), FAULTS, ids=lambda value: getattr(value, "__name__", value))
def test_a_planted_fault_is_caught_by_name_even_when_the_hashes_were_made_to_fit(
    fault: Edit, caught_by: str, exported_run: RunDirectory, copy_of
) -> None:
    run = copy_of(exported_run)
    model = onnx.load(run / "model.onnx")
    fault(model)
    onnx.save(model, run / "model.onnx")
    signature = Signature.load(run / "signature.json")
    hashes = {**signature.hashes, "model.onnx": sha256_of(run / "model.onnx")}
    dataclasses.replace(signature, hashes=hashes).save(run / "signature.json")
    report = verify(run)
    assert caught_by in failed(report)
    assert "hashes" not in failed(report)
    assert json.loads((run / "parity.json").read_text())["passed"] is False


@pytest.mark.parametrize("offset", [0.25, 0.5, 0.999])
def test_one_changed_byte_is_caught_and_the_command_exits_3(offset: float, exported_run: RunDirectory, copy_of) -> None:
    run = copy_of(exported_run)
    content = bytearray((run / "model.onnx").read_bytes())
    content[int(len(content) * offset)] ^= 1
    (run / "model.onnx").write_bytes(content)
    result = CliRunner().invoke(main, ["verify", str(run.path)])
    assert result.exit_code == 3
    assert "changed since export: model.onnx" in result.stdout
    assert "not verified: files hashes" in result.stderr


@pytest.mark.parametrize("fault", [one_weight, label_names_swapped, vocabulary_entries_swapped])
def test_one_changed_weight_label_or_vocabulary_entry_makes_the_command_exit_3(
    fault: Edit, exported_run: RunDirectory, copy_of
) -> None:
    run = copy_of(exported_run)
    model = onnx.load(run / "model.onnx")
    fault(model)
    onnx.save(model, run / "model.onnx")
    result = CliRunner().invoke(main, ["verify", str(run.path)])
    assert result.exit_code == 3
    assert "not verified: files hashes, " in result.stderr


def test_a_truncated_model_is_caught_without_a_traceback(exported_run: RunDirectory, copy_of) -> None:
    run = copy_of(exported_run)
    (run / "model.onnx").write_bytes((run / "model.onnx").read_bytes()[:1000])
    assert {"hashes", "graph", "load"} <= failed(verify(run))


def test_a_class_renamed_in_the_signature_is_caught(exported_run: RunDirectory, copy_of) -> None:
    run = copy_of(exported_run)
    text = (run / "signature.json").read_text()
    (run / "signature.json").write_text(text.replace("praise", "prize"))
    assert "graph" in failed(verify(run))


def test_a_healthy_run_passes_every_check_within_the_promised_tolerances(verified_run: RunDirectory) -> None:
    report = json.loads((verified_run / "parity.json").read_text())
    assert report["passed"] is True
    measured = {check["name"]: check["measured"] for check in report["checks"]}
    assert set(measured) == {
        "hashes", "graph", "weights", "grid", "held-out rows", "vocabulary", "hostile texts", "drawn texts",
        "padded", "repeated", "mixed", "split", "shuffled", "hostile neighbours",
        "float64", "optimisation", "threads",
    }  # fmt: skip
    assert all(measured[name]["max_absolute"] <= 1e-5 for name in ("grid", "held-out rows", "vocabulary"))
    assert all(measured[name]["max_absolute"] <= 1e-6 for name in ("padded", "mixed", "shuffled", "hostile neighbours"))
    assert measured["grid"]["rows"] == 4 * 3 * (1 + 2 + 7 + 64)


def test_parity_names_the_bytes_it_is_about(verified_run: RunDirectory) -> None:
    report = json.loads((verified_run / "parity.json").read_text())
    for name, digest in report["hashes"].items():
        assert sha256_of(verified_run / name) == digest
    assert {"torch", "onnx", "onnxruntime"} <= set(report["versions"])


def test_a_provider_that_is_not_there_is_a_failure_not_a_fallback(exported_run: RunDirectory, copy_of) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    report = verify(copy_of(exported_run), providers=("cuda",))
    (check,) = (check for check in report.checks if check.name == "load")
    assert not check.passed
    assert "CUDAExecutionProvider" in check.detail


@pytest.mark.parametrize("run_fixture", ["verified_run", "verified_feature_run"])
def test_the_live_endpoint_gives_the_same_answers(
    run_fixture: str, published_repository: Path, copy_of, request: pytest.FixtureRequest
) -> None:
    run = copy_of(request.getfixturevalue(run_fixture))
    with running(published_repository) as server:
        report = verify(run, endpoint=server.grpc_url)
    over_grpc = report.endpoint_checks
    assert report.passed
    assert not report.failures
    assert {"grid", "held-out rows", "padded", "mixed", "shuffled", "repeated"} <= {check.name for check in over_grpc}


def test_an_endpoint_that_cannot_be_asked_is_no_failed_check_and_leaves_the_report(
    verified_run: RunDirectory, published_repository: Path, copy_of, tmp_path: Path
) -> None:
    run = copy_of(verified_run)
    before = (run / "parity.json").read_bytes()
    with pytest.raises(ServerError, match="no Triton server answers"):
        verify(run, endpoint="127.0.0.1:9")
    with running(published_repository, models=("waves",)) as server:
        with pytest.raises(RequestError, match="opinions is not ready"):
            verify(run, endpoint=server.grpc_url)
        assert (run / "parity.json").read_bytes() == before
        report = verify(run, endpoint=server.grpc_url, model="waves")
    (check,) = report.endpoint_checks
    assert not check.passed
    assert report.passed, "an endpoint says nothing about the files"
    publish(run, tmp_path)
    assert "serves ('features', 2, ('fast', 'middling', 'slow'))" in check.detail


def test_an_endpoint_that_serves_another_model_is_caught(
    verified_run: RunDirectory, text_data: Path, copy_of, tmp_path: Path
) -> None:
    other = train(text_data, recipe.load(None, (*QUICK_TEXT, "train.seed=5", "publish.name=opinions")), tmp_path)
    export(other)
    assert verify(other).passed
    publish(other, tmp_path / "model_repository")
    run = copy_of(verified_run)
    with running(tmp_path / "model_repository") as server:
        result = CliRunner().invoke(main, ["verify", str(run.path), "--endpoint", server.grpc_url])
    assert result.exit_code == 3
    assert f"grpc://{server.grpc_url} held-out rows" in result.stderr


ROWS = [f"row {number}" for number in range(6)]


@dataclasses.dataclass
class Oracle:
    """An engine whose answer to a row is its number, but for what a test breaks."""

    broken: Callable[[Sequence[str], np.ndarray], np.ndarray] = lambda _, probabilities: probabilities
    name: str = "oracle"

    def answer(self, rows: Sequence[str | bytes]) -> Answers:
        rows = [row if isinstance(row, str) else row.decode(errors="replace") for row in rows]
        first = np.array([0.1 * int(row[-1]) if row.startswith("row") else 0.5 for row in rows], np.float32)
        probabilities = self.broken(rows, np.stack([first, 1 - first], 1))
        return Answers(probabilities, ["ab"[number] for number in probabilities.argmax(1)], np.ones(len(rows), bool))


def by_position(rows: Sequence[str], probabilities: np.ndarray) -> np.ndarray:
    return probabilities + np.linspace(0, 1e-3, len(rows), dtype=np.float32)[:, None]


def by_batch_size(rows: Sequence[str], probabilities: np.ndarray) -> np.ndarray:
    return probabilities + np.float32(1e-3 * (len(rows) == 2))


def nan_in_company(rows: Sequence[str], probabilities: np.ndarray) -> np.ndarray:
    return probabilities * np.where(len(rows) > 2, np.nan, 1).astype(np.float32)


@pytest.mark.parametrize(
    ("fault", "caught_by"), [(by_position, "shuffled"), (by_batch_size, "padded"), (nan_in_company, "mixed")]
)
def test_an_answer_that_depends_on_its_company_is_caught(fault, caught_by: str) -> None:
    checks = {check.name: check for check in batch_invariance(Oracle(fault), list(ROWS), "long", 6, is_text=True)}
    assert not checks[caught_by].passed
    assert all(check.passed for check in batch_invariance(Oracle(), list(ROWS), "long", 6, is_text=True))


def test_answers_that_change_from_call_to_call_are_caught() -> None:
    noise: Iterator[float] = iter([0.0, 1e-9])
    unsteady = Oracle(lambda _, probabilities: probabilities + np.float32(next(noise) * 1e3))
    assert not repeatability(unsteady, Batch("sample", list(ROWS))).passed


def test_nan_fails_parity_and_is_the_worst_row() -> None:
    def third_is_nan(rows: Sequence[str], probabilities: np.ndarray) -> np.ndarray:
        probabilities[3:4] = np.nan
        return probabilities

    healthy_after = [Batch("b", list(ROWS)), Batch("c", ROWS[:2])]
    check = parity("p", Oracle(), Oracle(third_is_nan), healthy_after, Tolerance(1e-5))
    assert not check.passed
    assert (check.measured["worst"]["batch"], check.measured["worst"]["row"]) == ("b", 3)


def test_no_batches_at_all_is_not_a_pass() -> None:
    assert not parity("p", Oracle(), Oracle(), [], Tolerance(1e-5)).passed


def test_a_flip_counts_only_beyond_the_tolerance() -> None:
    def even_but_flipped(rows: Sequence[str], probabilities: np.ndarray) -> np.ndarray:
        return 1 - probabilities

    check = parity("p", Oracle(), Oracle(even_but_flipped), [Batch("b", ["row 5", "row 4"])], Tolerance(1e-5))
    assert check.measured["flips"] == 1
    assert [(flip["row"], flip["labels"]) for flip in check.measured["flipped"]] == [(1, ["b", "a"])]
    assert check.measured["flipped"][0]["margin"] == pytest.approx(0.2)


def test_flips_are_found_with_their_margins() -> None:
    reference = Answers(np.array([[0.5, 0.5], [0.6, 0.4]], np.float32), ["a", "a"], np.ones(2, bool))
    other = Answers(reference.probabilities, ["b", "b"], np.ones(2, bool))
    assert [(flip.row, pytest.approx(flip.margin)) for flip in flips(reference, other)] == [(0, 0.0), (1, 0.2)]


def test_the_distance_of_arrays_is_what_numpy_says_and_does_not_depend_on_the_batches() -> None:
    generator = np.random.default_rng(0)
    ours = generator.normal(size=(50, 3, 2))
    theirs = ours + generator.normal(0, 1e-3, ours.shape)
    whole, parts = Distance(Tolerance(1e-5, 1e-3)), Distance(Tolerance(1e-5, 1e-3))
    by_row = whole.add(ours, theirs)
    for start in (0, 7, 30):
        parts.add(ours[start : {0: 7, 7: 30, 30: 50}[start]], theirs[start : {0: 7, 7: 30, 30: 50}[start]])
    quantiles = [distance.figures["quantiles"] for distance in (parts, whole)]
    assert quantiles[0] == pytest.approx(quantiles[1])
    for name in ("max_absolute", "mean_absolute", "max_relative", "mean_relative", "cosine", "needed"):
        assert parts.figures[name] == pytest.approx(whole.figures[name]), name
    difference = np.abs(ours - theirs)
    assert by_row == pytest.approx(difference.reshape(50, -1).max(1))
    figures = whole.figures
    assert figures["max_absolute"] == difference.max()
    assert figures["mean_absolute"] == pytest.approx(difference.mean())
    assert figures["quantiles"]["0.9"] == pytest.approx(np.quantile(by_row, 0.9))
    assert figures["cosine"] == pytest.approx(
        np.dot(ours.ravel(), theirs.ravel()) / np.linalg.norm(ours) / np.linalg.norm(theirs)
    )
    assert figures["needed"] == pytest.approx((difference - 1e-3 * np.abs(ours)).max())


def test_the_tolerance_that_would_have_passed_passes_and_a_smaller_one_does_not() -> None:
    ours = np.linspace(0, 1, 20)[:, None]
    theirs = ours + 1e-3
    strict = Distance(Tolerance(1e-5))
    strict.add(ours, theirs)
    assert not strict.is_within
    for factor, is_within in ((1.0, True), (0.999, False)):
        again = Distance(Tolerance(strict.figures["needed"] * factor))
        again.add(ours, theirs)
        assert again.is_within is is_within


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("sides", [(True, False), (False, True), (True, True)])
def test_a_number_that_is_not_finite_is_never_within(number: float, sides: tuple[bool, bool]) -> None:
    distance = Distance(Tolerance(1e9, 1e9))
    arrays = [np.full((1, 2), [0.5, number if side else 0.5]) for side in sides]
    distance.add(np.zeros((1, 2)), np.zeros((1, 2)))
    assert distance.is_within
    assert np.isnan(distance.add(arrays[0], arrays[1])).all()
    distance.add(np.zeros((1, 2)), np.zeros((1, 2)))
    assert not distance.is_within
    assert np.isnan(distance.max_absolute)
    assert distance.figures["not_finite"] == [int(side) for side in sides]


def test_answers_of_another_shape_are_refused() -> None:
    with pytest.raises(CheckFailed, match=r"\(2, 2\) where \(6, 2\) was wanted"):
        Distance(Tolerance(1e-5)).add(np.zeros((6, 2)), np.zeros((2, 2)))
