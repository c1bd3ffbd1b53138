"""Lower precision behind its gate: what is kept, what falls and why, and what may be published."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import numpy_helper
from safetensors.numpy import load_file, save_file

from pipeline import recipe
from pipeline.client import Client
from pipeline.commands import main
from pipeline.dataset import dataset_of
from pipeline.errors import CheckFailed, PipelineError, RunError, UsageError
from pipeline.export import export, export_variants
from pipeline.export.classifier import classifier_graph
from pipeline.export.judge import answers_of
from pipeline.export.lower import lowered, recurrent_nodes
from pipeline.files import sha256_of, write_json
from pipeline.gate import PRECISIONS
from pipeline.model import LSTMClassifier, Shape
from pipeline.publish import publish
from pipeline.reference import Reference
from pipeline.run_directory import RunDirectory
from pipeline.runtime import has_cuda_driver, open_session
from pipeline.serve import running
from pipeline.signature import Signature
from pipeline.train import train
from pipeline.verify import Check, verify
from pipeline.verify.variants import check_variants
from tests.conftest import QUICK_TEXT

INT8 = PRECISIONS["int8"]
Edit = Callable[[onnx.ModelProto], None]


def records(run: RunDirectory) -> dict[str, dict]:
    return {record["name"]: record for record in json.loads((run / "variants.json").read_text())["variants"]}


def failed(checks: Iterable[Check]) -> set[str]:
    return {f"{check.engine} {check.name}" for check in checks if not check.passed}


def change(model: onnx.ModelProto, ending: str, edit: Callable[[np.ndarray], np.ndarray]) -> None:
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name.endswith(ending))
    values = edit(numpy_helper.to_array(tensor).copy())
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def edit_variant(run: RunDirectory, edit: Edit) -> None:
    """Change the variant and the hash it is known by: only what it answers can betray it."""
    model = onnx.load(run / INT8.file)
    edit(model)
    onnx.save(model, run / INT8.file)
    content = json.loads((run / "variants.json").read_text())
    for record in content["variants"]:
        if record["name"] == "int8":
            record["sha256"] = sha256_of(run / INT8.file)
    write_json(run / "variants.json", content)


def edit_weights(run: RunDirectory, edit: Callable[[dict[str, np.ndarray]], None]) -> None:
    """Change the weights as if they had been trained so."""
    weights = {name: value.copy() for name, value in load_file(run / "weights.safetensors").items()}
    edit(weights)
    save_file(weights, run / "weights.safetensors")
    info = json.loads((run / "run.json").read_text())
    info["hashes"]["weights.safetensors"] = sha256_of(run / "weights.safetensors")
    write_json(run / "run.json", info)


def wrong_recurrent_scale(model: onnx.ModelProto) -> None:
    change(model, "/R_scale", lambda scale: scale * np.float32(-2))


def one_gate_scaled_wrongly(model: onnx.ModelProto) -> None:
    def edit(scale: np.ndarray) -> np.ndarray:
        cells = scale.shape[1] // 4
        scale[:, 3 * cells :] *= 30
        return scale

    change(model, "/W_scale", edit)


def hidden_guard_removed(model: onnx.ModelProto) -> None:
    def edit(biases: np.ndarray) -> np.ndarray:
        biases.reshape(len(biases), 2, 4, -1)[..., -2:] = 0
        return biases

    change(model, "/B", edit)


def input_guard_removed(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.op_type == "Pad" and node.name.endswith(("guard_low", "guard_high")):
            node.input[2] = "zero_guard"
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0), "zero_guard"))


def padding_may_be_the_largest(model: onnx.ModelProto) -> None:
    change(model, "/outside", np.ones_like)


def label_names_swapped(model: onnx.ModelProto) -> None:
    (node,) = (node for node in model.graph.node if node.name == "label/name")
    (names,) = (item.strings for item in node.attribute if item.name == "values_strings")
    names[0], names[1] = names[1], names[0]


def one_embedding_row(model: onnx.ModelProto) -> None:
    change(model, "embedding.weight", lambda values: np.concatenate([values[:-1], values[-1:] + 1e-3]))


def test_auto_keeps_int8_and_says_why_the_others_fell(variant_run: RunDirectory) -> None:
    found = records(variant_run)
    assert list(found) == ["int8", "fp16", "bf16"]
    assert found["int8"]["outcome"] == "kept"
    assert found["int8"]["sha256"] == sha256_of(variant_run / "model.int8.onnx")
    assert found["int8"]["bytes"] == (variant_run / "model.int8.onnx").stat().st_size
    measured = found["int8"]["figures"]
    assert measured["rows"] == 78
    assert measured["company_difference"] <= 1e-6
    assert measured["max_difference"] > 1e-6, "nothing was rounded"
    assert set(found["int8"]["speeds"]) == {"1", "64"}
    assert "unsupported type: tensor(bfloat16)" in found["bf16"]["reasons"][0]
    assert not (variant_run / "model.bf16.onnx").exists()
    if not has_cuda_driver():
        assert found["fp16"]["reasons"] == [
            "only CUDAExecutionProvider has kernels for it, and this machine has no CUDA driver"
        ]
        assert not (variant_run / "model.fp16.onnx").exists()


def test_the_recurrent_weights_alone_are_rounded_and_fit_7_bits(variant_run: RunDirectory) -> None:
    model, variant = (onnx.load(variant_run / name) for name in ("model.onnx", "model.int8.onnx"))
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in variant.graph.initializer}
    (node,) = (node for node in variant.graph.node if node.op_type == "DynamicQuantizeLSTM")
    (lstm,) = (node for node in model.graph.node if node.op_type == "LSTM")
    full = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for place, scale in ((1, 8), (2, 10)):
        rounded, scales = weights[node.input[place]], weights[node.input[scale]]
        assert rounded.dtype == np.int8
        assert np.abs(rounded.astype(int)).max() == 63
        D, H = scales.shape[0], scales.shape[1] // 4 - 2
        back = (rounded.transpose(0, 2, 1) * scales[:, :, None]).reshape(D, 4, H + 2, -1)[:, :, :H, :-2]
        wanted = full[lstm.input[place]].reshape(D, 4, H, -1)
        assert (np.abs(back - wanted) <= scales.reshape(D, 4, H + 2)[:, :, :H, None] * 0.5001).all()
    kept = {name for name in full if name not in lstm.input}
    assert all(np.array_equal(weights[name], full[name]) for name in kept)


def pooled_by(kinds: str) -> onnx.ModelProto:
    keys = recipe.ModelKeys(embedding_size=8, hidden_size=6, pooling=kinds)
    model = classifier_graph(LSTMClassifier(keys, Shape(classes=3, vocabulary_size=50)).eval(), "token_ids")
    return lowered(model, "int8", {node.name: (-1.0, 1.0) for node in recurrent_nodes(model)})


def test_sums_and_maxima_are_pooled_where_the_int8_layer_wrote_them() -> None:
    model = pooled_by("max+mean")
    (layer,) = (node for node in model.graph.node if node.op_type == "DynamicQuantizeLSTM")
    readers = [node for node in model.graph.node if layer.output[0] in node.input]
    assert [node.op_type for node in readers] == ["Add", "ReduceSum"]


@pytest.mark.parametrize("kinds", ["max", "mean", "max+mean"])
@pytest.mark.parametrize("is_bidirectional", [True, False])
@pytest.mark.parametrize("layers", [1, 2])
def test_pooled_as_it_lies_or_in_order_a_layer_gives_the_same_answers(
    kinds: str, is_bidirectional: bool, layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = recipe.ModelKeys(
        embedding_size=8, hidden_size=6, pooling=kinds, bidirectional=is_bidirectional, layers=layers
    )
    classifier = LSTMClassifier(keys, Shape(classes=3, vocabulary_size=50)).eval()
    classifier.head.weight.data *= 20  # so that an untrained model is of some opinion
    model = classifier_graph(classifier, "token_ids")
    ranges = {node.name: (-1.0, 1.0) for node in recurrent_nodes(model)}
    as_it_lies = lowered(model, "int8", ranges)
    monkeypatch.setattr("pipeline.export.lower.pooling_of", lambda *_: None)
    in_order = lowered(model, "int8", ranges)
    assert {node.op_type for node in as_it_lies.graph.node} != {node.op_type for node in in_order.graph.node}
    token_ids = np.random.default_rng(0).integers(1, 50, (5, 9))  # behind each row's end, too
    for lengths in ([9, 1, 4, 1, 8], [3, 1, 2, 2, 3], [1] * 5):
        feed = {"token_ids": token_ids, "lengths": np.array(lengths, np.int64)[:, None]}
        given, wanted = (
            open_session(one.SerializeToString()).run(["probabilities"], feed)[0] for one in (as_it_lies, in_order)
        )
        assert np.abs(given - wanted).max() <= 1e-6
        assert np.ptp(wanted, axis=0).max() > 1e-3, "all rows alike would prove nothing"


@pytest.mark.parametrize("kinds", ["last", "attention", "max+last"])
def test_other_pooling_reads_the_layer_as_it_was_exported(kinds: str) -> None:
    model = pooled_by(kinds)
    (layer,) = (node for node in model.graph.node if node.op_type == "DynamicQuantizeLSTM")
    assert [node.op_type for node in model.graph.node if layer.output[0] in node.input] == ["Slice"]


def test_the_same_run_gives_the_same_variant_bytes(variant_run: RunDirectory, copy_of) -> None:
    run = copy_of(variant_run)
    before = sha256_of(run / "model.int8.onnx")
    export_variants(run, ["int8"])
    assert sha256_of(run / "model.int8.onnx") == before


def test_the_command_prints_a_table_and_fails_only_for_a_variant_asked_for_by_name(
    exported_run: RunDirectory, copy_of
) -> None:
    run = copy_of(exported_run)
    result = CliRunner().invoke(main, ["export", str(run.path), "--variants", "auto"])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == str(run / "model.onnx")
    assert [line.split()[:2] for line in lines[2:4]] == [["fp32", "–"], ["int8", "kept"]]
    assert lines[-1] in {"chosen: int8", "chosen: fp32"}
    result = CliRunner().invoke(main, ["export", str(run.path), "--variants", "bf16"])
    assert result.exit_code == 3
    assert "not kept: bf16: [ShapeInferenceError]" in result.stderr
    assert (run / "model.onnx").is_file()
    assert not (run / "model.int8.onnx").exists(), "not asked for this time"


def test_a_variant_that_is_not_known_is_a_usage_error(exported_run: RunDirectory) -> None:
    with pytest.raises(UsageError, match="int4: no such variant; there are auto, int8, fp16, bf16"):
        export_variants(exported_run, ["int4"])


def test_a_model_changed_since_its_export_has_no_variants(exported_run: RunDirectory, copy_of) -> None:
    run = copy_of(exported_run)
    with (run / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(RunError, match="model.onnx: changed since it was exported"):
        export_variants(run)


def test_an_export_removes_the_variants_of_earlier_bytes_and_only_those(variant_run: RunDirectory, copy_of) -> None:
    run = copy_of(variant_run)
    export(run)
    assert (run / "model.int8.onnx").exists()
    edit_weights(run, lambda weights: weights["head.bias"].__iadd__(0.1))
    export(run)
    assert not (run / "model.int8.onnx").exists()
    assert not (run / "variants.json").exists()


def test_features_and_stacked_layers_are_lowered_too(verified_feature_run: RunDirectory, copy_of) -> None:
    run = copy_of(verified_feature_run)
    export_variants(run, ["int8"])
    (record,) = records(run).values()
    assert record["outcome"] == "kept", record["reasons"]
    report = verify(run)
    assert report.passed, failed(report.checks)
    assert "int8 hostile inputs" in {f"{c.engine} {c.name}" for c in report.checks}


def unquantisable(weights: dict[str, np.ndarray]) -> None:
    """Let layer 1 read an output of layer 0 that is always zero with weights so large that the others round to zero."""
    size = weights["layers.0.directions.0.bias_ih_l0"].shape[0] // 4
    weights["layers.0.directions.0.bias_ih_l0"][3 * size] = -100  # the output gate of its first unit
    for direction in (0, 1):
        weights[f"layers.1.directions.{direction}.weight_ih_l0"][:, 0] = 1000


def test_a_fallen_variant_names_the_node_whose_full_precision_repairs_it(text_data: Path, tmp_path: Path) -> None:
    run = train(text_data, recipe.load(None, (*QUICK_TEXT, "model.layers=2", "train.epochs=8")), tmp_path)
    edit_weights(run, unquantisable)
    export(run)
    export_variants(run, ["int8"])
    (record,) = records(run).values()
    first, second = (node.name for node in onnx.load(run / "model.onnx").graph.node if node.op_type == "LSTM")
    assert record["outcome"] == "fell"
    assert record["reasons"][0].startswith(("accuracy: ", "labels: "))
    assert record["repaired_by"] == [second] != [first]
    assert not (run / "model.int8.onnx").exists()
    assert json.loads((run / "variants.json").read_text())["chosen"] == "fp32"
    assert list(check_variants(run, Reference.load(run), dataset_of(run))) == []


def test_a_gru_has_no_int8_form_and_says_so() -> None:
    keys = recipe.ModelKeys(cell="gru", embedding_size=8, hidden_size=6)
    model = classifier_graph(LSTMClassifier(keys, Shape(classes=3, vocabulary_size=50)).eval(), "token_ids")
    with pytest.raises(PipelineError, match="ONNX Runtime has no int8 GRU; .* is one"):
        lowered(model, "int8", {node.name: (-1.0, 1.0) for node in recurrent_nodes(model)})
    onnx.checker.check_model(lowered(model, "fp16", {}), full_check=True)


def test_half_precision_answers_nearly_as_full_precision(exported_run: RunDirectory) -> None:
    """ONNX Runtime's CPU rounds the weights and computes in float32 behind casts: the graph is right, if no faster."""
    model = onnx.load(exported_run / "model.onnx")
    texts = ["the film is lovely", "her song never works", "", "电影 不好"]
    full, half = (answers_of(one.SerializeToString(), "text")(texts) for one in (model, lowered(model, "fp16", {})))
    assert 0 < np.abs(full - half).max() < 1e-3


def test_a_record_that_names_no_known_variant_is_refused(variant_run: RunDirectory, copy_of) -> None:
    run = copy_of(variant_run)
    text = (run / "variants.json").read_text()
    (run / "variants.json").write_text(text.replace('"int8"', '"int4"'))
    with pytest.raises(RunError, match="variants.json: cut off or edited"):
        verify(run)


@pytest.mark.parametrize(
    ("fault", "caught_by"),
    [
        (wrong_recurrent_scale, "int8 labels"),
        (one_gate_scaled_wrongly, "int8 labels"),
        (hidden_guard_removed, "int8 company"),
        (hidden_guard_removed, "int8 hostile inputs"),
        (input_guard_removed, "int8 company"),
        (padding_may_be_the_largest, "int8 labels"),
        (label_names_swapped, "int8 files graph"),
        (one_embedding_row, "int8 files graph"),
    ],
)
def test_verification_measures_again_and_catches_a_fault(
    fault: Edit, caught_by: str, variant_run: RunDirectory, copy_of
) -> None:
    run = copy_of(variant_run)
    edit_variant(run, fault)
    reference = Reference.load(run)
    assert caught_by in failed(check_variants(run, reference, reference.dataset()))


def test_verification_catches_bytes_changed_since_export(variant_run: RunDirectory, copy_of) -> None:
    run = copy_of(variant_run)
    with (run / "model.int8.onnx").open("r+b") as file:
        file.truncate(1000)
    assert {"int8 files hashes", "int8 files graph"} <= failed(verify(run).checks)


def test_the_parity_report_holds_the_variant_with_its_own_answers(variant_run: RunDirectory) -> None:
    report = json.loads((variant_run / "parity.json").read_text())
    assert {"model.int8.onnx", "variants.json"} <= set(report["hashes"])
    names = [check["name"] for check in report["checks"] if check["engine"] == "int8"]
    assert names == ["finite", "accuracy", "labels", "calibration", "company", "hostile inputs"]
    ours, full = report["variants"]["int8"], report["goldens"]
    assert [golden["text"] for golden in ours] == [golden["text"] for golden in full]
    assert ours[0]["probabilities"] != full[0]["probabilities"]


def test_a_published_variant_is_the_versions_model_and_the_real_triton_serves_it(
    variant_run: RunDirectory, tmp_path: Path
) -> None:
    first = publish(variant_run, tmp_path / "repository")
    second = publish(variant_run, tmp_path / "repository", variant="int8")
    assert sha256_of(second / "model.onnx") == sha256_of(variant_run / "model.int8.onnx")
    assert Signature.load(second / "signature.json").hashes["model.onnx"] == sha256_of(second / "model.onnx")
    manifests = [json.loads((version / "manifest.json").read_text()) for version in (first, second)]
    assert [manifest["variant"] for manifest in manifests] == ["fp32", "int8"]
    assert manifests[1]["files"]["model.onnx"] == sha256_of(second / "model.onnx")
    texts = [golden["text"] for golden in json.loads((second / "parity.json").read_text())["variants"]["int8"]]
    expected = answers_of((variant_run / "model.int8.onnx").read_bytes(), "text")(texts)
    with running(tmp_path / "repository") as server, Client(server.grpc_url, "opinions") as client:
        given = [list(answer.probabilities.values()) for answer in client.classify(texts)]
        endpoint = (f"grpc://{server.grpc_url}",)
        as_int8, as_fp32 = (verify(variant_run, engines=endpoint, against=name, only=("held-out rows",))
                            for name in ("int8", "pytorch"))  # fmt: skip
    assert np.abs(expected - np.array(given, np.float32)).max() <= 1e-3
    assert [check.passed for check in as_int8.endpoint_checks] == [True]
    assert as_int8.endpoint_checks[0].engine == f"{endpoint[0]} against int8"
    assert [check.passed for check in as_fp32.endpoint_checks] == [False], "what is served is not full precision"


@pytest.mark.parametrize(("engines", "against"), [(("int8",), "pytorch"), ((), "int8"), (("cpu",), "int8")])
def test_a_variant_is_the_reference_of_endpoints_alone(engines, against: str, variant_run: RunDirectory) -> None:
    with pytest.raises(UsageError, match="a variant is judged by its gate"):
        verify(variant_run, engines=engines, against=against)


def test_publish_refuses_a_variant_that_was_not_verified(
    verified_run: RunDirectory, variant_run: RunDirectory, copy_of, tmp_path: Path
) -> None:
    with pytest.raises(CheckFailed, match="parity.json: no verified int8. Make it with `pipeline export .* --variants"):
        publish(verified_run, tmp_path / "repository", variant="int8")
    run = copy_of(verified_run)
    export_variants(run, ["int8"])
    with pytest.raises(CheckFailed, match="no verified int8"):
        publish(run, tmp_path / "repository", variant="int8")
    assert not (tmp_path / "repository").exists()


@pytest.mark.parametrize("name", ["model.int8.onnx", "variants.json"])
def test_publish_refuses_a_variant_changed_after_verification(
    name: str, variant_run: RunDirectory, copy_of, tmp_path: Path
) -> None:
    run = copy_of(variant_run)
    with (run / name).open("ab") as file:
        file.write(b"\n")
    with pytest.raises(CheckFailed, match=f"{name}: changed since it was verified"):
        publish(run, tmp_path / "repository", variant="int8")


def test_publish_refuses_a_variant_that_failed_or_answers_otherwise(
    variant_run: RunDirectory, copy_of, tmp_path: Path
) -> None:
    run = copy_of(variant_run)
    report = json.loads((run / "parity.json").read_text())
    report["variants"]["int8"][0]["probabilities"] = [0.5, 0.5]
    write_json(run / "parity.json", report)
    with pytest.raises(CheckFailed, match="does not answer as it was verified"):
        publish(run, tmp_path / "repository", variant="int8")
    write_json(run / "parity.json", report | {"passed": False})
    with pytest.raises(CheckFailed, match="verification failed"):
        publish(run, tmp_path / "repository", variant="int8")
