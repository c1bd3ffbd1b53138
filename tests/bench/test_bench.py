import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from pipeline import recipe
from pipeline.bench.plain import PlainClassifier, train_plainly
from pipeline.commands import main
from pipeline.dataset import Dataset
from pipeline.run_directory import RunDirectory
from pipeline.train.prepare import prepare
from tests.conftest import QUICK_TEXT

OPTIONS = ["--seconds", "0.05", "--repeats", "2", *(word for key in QUICK_TEXT for word in ("--set", key))]


def test_every_way_is_measured_and_compared(text_data: Path) -> None:
    result = CliRunner().invoke(main, ["bench", "train", "--data", str(text_data), "--json", *OPTIONS])
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    speeds = record["tokens_per_second"]
    assert set(speeds) == {"ours", "packed", "padded", "fixed", "kernels"}
    assert all(len(values) == 2 and min(values) > 0 for values in speeds.values())
    median = {name: np.median(values) for name, values in speeds.items()}
    assert record["ratios"]["packed"] == pytest.approx(median["ours"] / median["packed"])
    assert record["kernel_share"] == pytest.approx(median["ours"] / median["kernels"])


def test_the_table_names_every_way_and_the_machine(text_data: Path) -> None:
    result = CliRunner().invoke(main, ["bench", "train", "--data", str(text_data), *OPTIONS])
    for part in ("ours", "packed", "padded", "fixed", "kernels", "times as fast", "of our time", "threads"):
        assert part in result.stdout


def test_the_packed_loop_trains_the_same_model_as_ours(text_data: Path) -> None:
    keys = recipe.load(None, (*QUICK_TEXT, "model.dropout=0"))
    prepared = prepare(Dataset(text_data), keys)
    ours = prepared.model.eval()
    plain = PlainClassifier(keys, prepared.record["vocabulary_size"], 16, 2, "packed").eval()
    plain.embedding.load_state_dict(ours.embedding.state_dict())
    plain.head.load_state_dict(ours.head.state_dict())
    for suffix, direction in zip(("", "_reverse"), ours.recurrent_layers[0].directions, strict=True):
        for name, value in direction.named_parameters():
            getattr(plain.lstm, name + suffix).data.copy_(value.data)
    inputs, lengths = (torch.from_numpy(a) for a in prepared.training.sequences.padded(np.arange(20)))
    torch.testing.assert_close(plain(inputs, lengths), ours(inputs, lengths), atol=1e-6, rtol=0)


@pytest.mark.parametrize("way", ["packed", "padded"])
def test_the_plain_loops_really_train(way: str, text_data: Path) -> None:
    keys = recipe.load(None, QUICK_TEXT)
    prepared = prepare(Dataset(text_data), keys)
    plain = PlainClassifier(keys, prepared.record["vocabulary_size"], 16, 2, way)
    before = plain.lstm.weight_hh_l0.detach().clone()
    assert next(train_plainly(plain, prepared.training, keys, None, 0)) > 64
    assert not torch.equal(before, plain.lstm.weight_hh_l0)


def test_what_the_plain_loops_have_not_is_named(text_data: Path) -> None:
    arguments = ["bench", "train", "--data", str(text_data), "--set", "model.norm=layer", *OPTIONS]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "model.norm: the plain loops have none" in result.stderr


def test_verification_is_timed_beside_the_bare_inference_of_both_sides(exported_run: RunDirectory) -> None:
    result = CliRunner().invoke(main, ["bench", "verify", str(exported_run.path), "--repeats", "2", "--json"])
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    seconds = record["seconds"]
    assert list(seconds) == ["pytorch", "onnxruntime", "verify"]
    assert all(len(values) == 2 and min(values) > 0 for values in seconds.values())
    wanted = [seconds["verify"][at] / (seconds["pytorch"][at] + seconds["onnxruntime"][at]) for at in (0, 1)]
    assert record["ratios"] == pytest.approx(wanted)
    assert record["ratio"] == pytest.approx(np.median(wanted))
    dataset = Dataset(Path(exported_run.info["dataset"]))
    assert record["rows"] == len(dataset.split("validation")) + len(dataset.split("test"))


def test_the_verification_table_names_every_way_and_the_ratio(exported_run: RunDirectory) -> None:
    result = CliRunner().invoke(main, ["bench", "verify", str(exported_run.path), "--repeats", "1"])
    for part in ("pytorch", "onnxruntime", "verify", "times as long as both bare ones", "rows in batches of 64"):
        assert part in result.stdout


def test_words_cannot_be_changed_in_frames(feature_data: Path) -> None:
    settings = ["--set", "adversarial.method=word", "--set", "adversarial.size=1"]
    result = CliRunner().invoke(main, ["bench", "train", "--data", str(feature_data), *settings])
    assert result.exit_code == 2
    assert "adversarial.method=word: is for texts" in result.stderr
