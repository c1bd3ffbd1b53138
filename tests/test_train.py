import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipeline import recipe
from pipeline.errors import DataError, PipelineError, RunError, UsageError
from pipeline.evaluate import evaluate
from pipeline.files import sha256_of
from pipeline.reference import Reference
from pipeline.run_directory import RunDirectory
from pipeline.train import Choices, Epoch, Step, train
from tests.conftest import QUICK_FEATURES, QUICK_TEXT


def test_a_run_holds_what_later_stages_need(trained_run: RunDirectory) -> None:
    assert {path.name for path in trained_run.path.iterdir()} == {
        "run.json",
        "recipe.toml",
        "tokenizer.onnx",
        "weights.safetensors",
        "metrics.jsonl",
    }
    assert recipe.load(str(trained_run / "recipe.toml")) == recipe.load(None, QUICK_TEXT)


def test_metrics_have_a_line_for_each_epoch_and_the_loss_falls(trained_run: RunDirectory) -> None:
    epochs = [json.loads(line) for line in (trained_run / "metrics.jsonl").read_text().splitlines()]
    assert [epoch["epoch"] for epoch in epochs] == [1, 2, 3]
    assert epochs[-1]["train_loss"] < epochs[0]["train_loss"]
    assert set(epochs[0]) == {field.name for field in dataclasses.fields(Epoch)} - {"weights"} | {"is_best"}
    assert epochs[0]["is_best"] is True


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop", "sgd"])
def test_every_optimizer_learns(optimizer: str, text_data: Path, tmp_path: Path) -> None:
    rate = "0.5" if optimizer == "sgd" else "0.005"
    settings = (*QUICK_TEXT, f"train.optimizer={optimizer}", f"train.learning_rate={rate}", "train.epochs=4")
    run = train(text_data, recipe.load(None, settings), tmp_path)
    figures = evaluate(run)["test"]
    assert figures["accuracy"] > figures["majority_baseline"] + 0.2


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(text_data: Path, tmp_path: Path) -> None:
    def weights(seed: int) -> str:
        keys = recipe.load(None, (*QUICK_TEXT, f"train.seed={seed}", "train.epochs=1"))
        return sha256_of(train(text_data, keys, tmp_path, Choices(is_deterministic=True)) / "weights.safetensors")

    assert weights(1) == weights(1) != weights(2)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_the_weights_of_the_best_epoch_are_kept_and_patience_ends_training(
    ema_decay: float, text_data: Path, tmp_path: Path
) -> None:
    settings = (*QUICK_TEXT, "train.epochs=60", "train.learning_rate=0.05", f"train.ema_decay={ema_decay}")
    settings += ("train.calibrate=false",)
    events: list[Step | Epoch] = []
    run = train(text_data, recipe.load(None, settings), tmp_path, Choices(progress=events.append))
    epochs = [event for event in events if isinstance(event, Epoch)]
    best = min(epochs, key=lambda epoch: epoch.validation_loss)
    assert len(epochs) == best.epoch + 2 < 60
    assert evaluate(run)["validation"]["loss"] == pytest.approx(best.validation_loss, abs=1e-5)


def test_an_interrupt_leaves_a_usable_run(text_data: Path, tmp_path: Path) -> None:
    def interrupt(event: Step | Epoch) -> None:
        if isinstance(event, Step) and event.epoch == 2:
            raise KeyboardInterrupt

    run = train(text_data, recipe.load(None, QUICK_TEXT), tmp_path, Choices(progress=interrupt))
    assert run.info["interrupted"] is True
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 1
    assert evaluate(run)["test"]["rows"] > 0


def test_an_interrupt_in_the_first_epoch_leaves_a_usable_run_too(text_data: Path, tmp_path: Path) -> None:
    def interrupt(event: Step | Epoch) -> None:
        raise KeyboardInterrupt

    run = train(text_data, recipe.load(None, QUICK_TEXT), tmp_path, Choices(progress=interrupt))
    assert evaluate(run)["test"]["rows"] > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_on_the_command_line_prints_the_run_and_exits_1(number: int, text_data: Path, tmp_path: Path) -> None:
    settings = [
        word for setting in (*QUICK_TEXT, "train.epochs=500", "train.patience=500") for word in ("--set", setting)
    ]
    command = [sys.executable, "-m", "pipeline", "train", "--data", str(text_data), "--runs", str(tmp_path), *settings]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        assert process.stderr.readline().startswith("epoch 1:")
        process.send_signal(number)
        printed, errors = process.stdout.read(), process.stderr.read()
    assert process.returncode == 1
    assert "interrupted; the best weights so far are in" in errors
    assert "Traceback" not in errors
    assert evaluate(RunDirectory.open(Path(printed.strip())))["test"]["rows"] > 0


def test_divergence_is_named_with_its_step(text_data: Path, tmp_path: Path) -> None:
    settings = (*QUICK_TEXT, "train.optimizer=sgd", "train.learning_rate=1e38", "train.clip_norm=1e38")
    with pytest.raises(
        PipelineError, match=r"training diverged: loss (nan|inf).* in epoch \d, step \d+\. Lower train.learning"
    ):
        train(text_data, recipe.load(None, settings), tmp_path)


def test_feature_sequences_share_every_stage(feature_data: Path, verified_feature_run: RunDirectory) -> None:
    figures = evaluate(verified_feature_run)["test"]
    assert figures["accuracy"] > 0.9
    assert not (verified_feature_run / "tokenizer.onnx").exists()


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_a_saved_run_answers_as_the_model_that_was_validated(ema_decay: float, text_data: Path, tmp_path: Path) -> None:
    events: list[Step | Epoch] = []
    settings = (*QUICK_TEXT, f"train.ema_decay={ema_decay}", "train.calibrate=false")
    run = train(text_data, recipe.load(None, settings), tmp_path, Choices(progress=events.append))
    best = [event for event in events if isinstance(event, Epoch) and event.weights is not None][-1]
    assert best.weights is not None
    saved = Reference.load(run).model.state_dict()
    assert all(torch.equal(saved[name], value) for name, value in best.weights.items())


def test_word_dropout_changes_training_and_leaves_frames_alone(
    text_data: Path, feature_data: Path, tmp_path: Path
) -> None:
    def loss(data: Path, quick: tuple[str, ...], share: float) -> float:
        settings = (*quick, "train.epochs=1", f"augment.word_dropout={share}")
        run = train(data, recipe.load(None, settings), tmp_path)
        return json.loads((run / "metrics.jsonl").read_text())["train_loss"]

    assert loss(text_data, QUICK_TEXT, 0.0) != loss(text_data, QUICK_TEXT, 0.5)
    assert loss(feature_data, QUICK_FEATURES, 0.0) == loss(feature_data, QUICK_FEATURES, 0.5)


def test_evaluation_refuses_other_data(trained_run: RunDirectory, feature_data: Path) -> None:
    with pytest.raises(DataError, match="not the data that .* was trained on"):
        evaluate(trained_run, feature_data)


@pytest.mark.parametrize("name", ["weights.safetensors", "tokenizer.onnx", "recipe.toml"])
def test_a_run_whose_file_was_changed_or_lost_is_refused(name: str, trained_run: RunDirectory, copy_of) -> None:
    run = copy_of(trained_run)
    path = run / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RunError, match=f"{name}: changed since `pipeline train` wrote it"):
        evaluate(run)
    path.unlink()
    with pytest.raises(RunError, match=f"{name}: missing. Make it with `pipeline train` first"):
        evaluate(run)


def test_a_run_that_was_killed_half_way_is_refused(trained_run: RunDirectory, copy_of) -> None:
    run = copy_of(trained_run)
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**info, "hashes": {}}))
    with pytest.raises(RunError, match="training was cut off before it ended"):
        evaluate(run)
    (run / "run.json").write_text('{"format": 1,')
    with pytest.raises(RunError, match=r"run.json: not readable as JSON"):
        evaluate(run)


@pytest.mark.parametrize("key", ["name", "classes", "feature_size", "interface", "dataset_hashes"])
def test_a_run_record_that_was_edited_is_refused_in_one_line(key: str, trained_run: RunDirectory, copy_of) -> None:
    run = copy_of(trained_run)
    info = json.loads((run / "run.json").read_text())
    del info[key]
    (run / "run.json").write_text(json.dumps(info))
    with pytest.raises(RunError, match=f"run.json: cut off or edited: no proper '{key}'"):
        evaluate(run)


@pytest.mark.parametrize("name", ["a/b", "../../x", "my reviews", "x["])
def test_a_name_that_cannot_be_published_is_refused_before_training(name: str, text_data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a model name"):
        train(text_data, recipe.load(None, (*QUICK_TEXT, f'publish.name="{name}"')), tmp_path / "runs")
    assert list(tmp_path.iterdir()) == []


def test_training_twice_makes_two_runs(feature_data: Path, tmp_path: Path) -> None:
    keys = recipe.load(None, (*QUICK_FEATURES, "train.epochs=1"))
    assert [train(feature_data, keys, tmp_path).path.name for _ in range(2)] == ["waves-001", "waves-002"]
