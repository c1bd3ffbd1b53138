"""Training is followed by the real TensorBoard and the real MLflow, the latter over SQLite."""

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import recipe
from pipeline.errors import PipelineError, UsageError
from pipeline.run_directory import RunDirectory
from pipeline.train import Choices, Epoch, Pretrained, Step, resume, train
from tests.conftest import QUICK_FEATURES, QUICK_TEXT

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # SQLAlchemy's, of MLflow's own queries

KEYS = recipe.load(None, (*QUICK_FEATURES, "train.epochs=3"))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where MLflow keeps its runs; the handlers it adds to the root logger are taken away again."""
    path = tmp_path / "mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
    handlers = logging.root.handlers[:]
    yield path
    logging.root.handlers[:] = handlers


def scalars(run: RunDirectory, name: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.path))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def mlflow_runs(name: str) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient()
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def history(run: RunDirectory) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_tensorboard_sees_every_step_and_every_epoch(feature_data: Path, tmp_path: Path) -> None:
    steps: list[float] = []

    def note(event: Pretrained | Step | Epoch) -> None:
        if isinstance(event, Step):
            steps.append(event.loss)

    run = train(feature_data, KEYS, tmp_path, Choices(trackers=("tensorboard",), progress=note))
    assert scalars(run, "step/loss") == [(number, pytest.approx(loss)) for number, loss in enumerate(steps, 1)]
    assert scalars(run, "epoch/validation_loss") == [
        (record["epoch"], pytest.approx(record["validation_loss"])) for record in history(run)
    ]


def test_tensorboard_sees_pre_training(text_data: Path, tmp_path: Path) -> None:
    keys = recipe.load(None, (*QUICK_TEXT, "train.epochs=1", "pretrain.texts=train", "pretrain.epochs=2"))
    run = train(text_data, keys, tmp_path, Choices(trackers=("tensorboard",)))
    assert [step for step, _ in scalars(run, "pretrain/loss")] == [1, 2]


@pytest.mark.usefixtures("store")
def test_a_resumed_training_goes_on_in_its_mlflow_run(feature_data: Path, tmp_path: Path) -> None:
    def interrupt(event: Pretrained | Step | Epoch) -> None:
        if isinstance(event, Step) and (event.epoch, event.step) == (2, 1):
            raise KeyboardInterrupt

    run = train(feature_data, KEYS, tmp_path, Choices(trackers=("mlflow",), progress=interrupt))
    (seen,) = mlflow_runs("waves")
    assert seen.info.status == "KILLED"
    assert seen.info.run_name == run.path.name
    assert seen.data.params["train.learning_rate"] == str(KEYS.train.learning_rate)
    resume(run, Choices(trackers=("mlflow",)))
    (seen,) = mlflow_runs("waves")
    assert seen.info.status == "FINISHED"
    last = history(run)[-1]
    assert last["epoch"] == 3
    assert {name: seen.data.metrics[name] for name in ("train_loss", "validation_accuracy")} == pytest.approx(
        {name: last[name] for name in ("train_loss", "validation_accuracy")}
    )


def test_a_tracker_that_fails_is_left_out_and_training_goes_on(
    store: Path, feature_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def spoil(event: Pretrained | Step | Epoch) -> None:
        if isinstance(event, Epoch) and event.epoch == 1:
            store.write_bytes(b"no database" * 1000)

    run = train(feature_data, KEYS, tmp_path, Choices(trackers=("mlflow", "tensorboard"), progress=spoil))
    ours = [record.message for record in caplog.records if record.name == "pipeline.train.track"]
    assert len(ours) == 1
    assert ours[0].startswith("pipeline: MLflow: ")
    assert ours[0].endswith("; training goes on without it.")
    assert len(history(run)) == len(scalars(run, "epoch/seconds")) == 3


def test_a_tracker_that_cannot_be_opened_is_named(
    feature_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://nowhere")
    with pytest.raises(PipelineError, match=r"--track mlflow: .*nonsense.* train without --track mlflow"):
        train(feature_data, KEYS, tmp_path, Choices(trackers=("mlflow",)))


def test_a_tracker_that_is_not_installed_is_named(
    feature_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UsageError, match=r"needs mlflow, which is not installed: `pip install 'pipeline\[mlflow\]'`"):
        train(feature_data, KEYS, tmp_path, Choices(trackers=("mlflow",)))
