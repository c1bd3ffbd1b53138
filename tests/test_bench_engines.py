"""`pipeline bench engines`: the same weights, the same questions, and the ratios between engines."""

import dataclasses
import json
import sys

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result

from pipeline.bench.classifiers import classifier_part, from_tokens
from pipeline.commands import main
from pipeline.errors import UsageError
from pipeline.reference import Reference
from pipeline.run_directory import RunDirectory
from pipeline.runtime import open_session
from pipeline.sequences import feed


def bench(run: RunDirectory, *options: str) -> Result:
    return CliRunner().invoke(main, ["bench", "engines", str(run.path), "--rows", "6", "--repeats", "2", *options])


def test_every_engine_is_timed_from_text_and_from_tokens_and_compared(variant_run: RunDirectory) -> None:
    result = bench(variant_run, "--batch", "1", "--batch", "4", "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert [(case["from"], case["batch_size"], case["order"]) for case in record["cases"]] == [
        ("text", 1, "drawn"), ("tokens", 1, "drawn"), ("text", 4, "drawn"),
        ("tokens", 4, "drawn"), ("text", 4, "similar"), ("tokens", 4, "similar"),
    ]  # fmt: skip
    for case in record["cases"]:
        rates = case["rows_per_second"]
        assert list(rates) == ["pytorch", "fp32", "int8"]
        assert all(len(values) == 2 and min(values) > 0 for values in rates.values())
        assert case["ratios"]["pytorch"]["int8"] == pytest.approx(np.divide(rates["int8"], rates["pytorch"]))
    agreement = record["agreement"]
    assert agreement["fp32"]["rows"] == len(Reference.load(variant_run).dataset().split("test"))
    assert agreement["pytorch"]["differ"] == agreement["fp32"]["differ"] == 0


def test_a_batch_larger_than_what_is_timed_is_called_by_its_real_size(variant_run: RunDirectory) -> None:
    record = json.loads(bench(variant_run, "--batch", "50", "--json").stdout)
    assert {case["batch_size"] for case in record["cases"]} == {record["rows"]} == {6}


def test_the_table_names_every_engine_its_ratio_and_what_its_labels_are_worth(variant_run: RunDirectory) -> None:
    result = bench(variant_run, "--batch", "2", "--cpu-time")
    for part in ("× pytorch", "1.00 (1.00–1.00)", "int8", "similar", "test rows right", "CPU time", "onnxruntime 1."):
        assert part in result.stdout


def test_the_part_after_the_tokenizer_answers_as_the_whole_does(variant_run: RunDirectory) -> None:
    texts = ["the film is lovely", "", "her song never works"]
    sequences = Reference.load(variant_run).tokenizer.encode(texts)  # type: ignore[union-attr]
    token_ids, lengths = sequences.padded(np.arange(len(texts)))
    for name in ("model.onnx", "model.int8.onnx"):
        model = onnx.load(variant_run / name)
        part = open_session(classifier_part(model).SerializeToString())
        (whole,) = open_session(variant_run / name).run(["probabilities"], feed("text", texts))
        (given,) = part.run(["probabilities"], {"token_ids": token_ids, "lengths": lengths[:, None]})
        assert np.abs(whole - given).max() <= 1e-6


def test_a_model_that_plain_pytorch_cannot_hold_is_not_compared(variant_run: RunDirectory) -> None:
    reference = Reference.load(variant_run)
    keys = dataclasses.replace(reference.recipe.model, convolution=3)
    other = dataclasses.replace(reference, recipe=dataclasses.replace(reference.recipe, model=keys))
    with pytest.raises(UsageError, match="no nn.LSTM between embedding and pooling alone: model.convolution"):
        from_tokens(other, 1, openvino=False)


def test_openvino_is_asked_for_by_name_and_missed_with_one_line(
    variant_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)  # as if it were not installed
    result = bench(variant_run, "--openvino")
    assert result.exit_code == 1
    assert "openvino: not installed. `pip install openvino`" in result.stderr


def test_features_and_the_cpu_time_of_several_threads_are_usage_errors(
    verified_feature_run: RunDirectory, variant_run: RunDirectory
) -> None:
    for run, options, message in (
        (verified_feature_run, (), "reads features; bench engines compares text models"),
        (variant_run, ("--cpu-time", "--threads", "2"), "--cpu-time: got 2 threads"),
    ):
        result = bench(run, *options)
        assert result.exit_code == 2
        assert message in result.stderr
