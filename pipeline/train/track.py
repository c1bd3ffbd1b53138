"""A run's figures, as they come, for TensorBoard or in MLflow: both optional extras.

::

    runs/NAME-001/events.out.tfevents.*     `tensorboard --logdir runs` shows the runs by name
    $MLFLOW_TRACKING_URI                    experiment NAME, or $MLFLOW_EXPERIMENT_NAME; run NAME-001
"""

import contextlib
import dataclasses
import logging
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from pipeline.errors import PipelineError, UsageError
from pipeline.files import write_json
from pipeline.recipe import Recipe, dumps
from pipeline.run_directory import RunDirectory
from pipeline.train.loop import Epoch, Step
from pipeline.train.pretrain import Pretrained

Event = Pretrained | Step | Epoch

_log = logging.getLogger(__name__)


class Tracker(Protocol):
    """Somebody who is told of a run."""

    def follow(self, event: Event) -> None:
        """Take note of an event."""

    def close(self, status: str) -> None:
        """Take note that the run is FINISHED, KILLED (interrupted) or FAILED."""


@contextlib.contextmanager
def tracking(run: RunDirectory, keys: Recipe, names: tuple[str, ...]) -> Iterator[Callable[[Event], None]]:
    """Open trackers and yield what tells them of an event.

    A tracker that fails once training is under way is left out from then on, with a warning: training goes on.

    Args:
        run: what is trained.
        keys: its recipe.
        names: ``tensorboard``, ``mlflow``.

    Raises:
        UsageError: a tracker is not installed.
        PipelineError: it cannot be opened: MLflow does not answer, the disk is full.
    """
    trackers = [_open(name, run, keys) for name in dict.fromkeys(names)]

    def tell(act: Callable[[Tracker], None]) -> None:
        for tracker in tuple(trackers):
            try:
                act(tracker)
            except Exception as error:  # noqa: BLE001 - whatever ails a tracker, hours of training outlive it
                trackers.remove(tracker)
                _log.warning("pipeline: %s: %s; training goes on without it.", type(tracker).__name__, error)

    status = "FAILED"
    try:
        yield lambda event: tell(lambda tracker: tracker.follow(event))
        status = "KILLED" if run.info["interrupted"] else "FINISHED"
    finally:
        tell(lambda tracker: tracker.close(status))


class TensorBoard:
    """Each step's and each epoch's scalars, in the run directory."""

    def __init__(self, run: RunDirectory, keys: Recipe) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(run.path))
        self._writer.add_text("recipe", "".join(f"    {line}\n" for line in dumps(keys).splitlines()))

    def follow(self, event: Event) -> None:
        """See `Tracker`."""
        if isinstance(event, Step):
            number = (event.epoch - 1) * event.steps + event.step
            figures = {"loss": event.loss, "gradient_norm": event.gradient_norm, "learning_rate": event.learning_rate}
            self._add("step", figures, number)
        else:
            self._add("pretrain" if isinstance(event, Pretrained) else "epoch", _figures(event), event.epoch)
            self._writer.flush()

    def close(self, status: str) -> None:  # noqa: ARG002 - events hold no status
        """See `Tracker`."""
        self._writer.close()

    def _add(self, group: str, figures: dict[str, float], number: int) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(f"{group}/{name}", value, number)


class MLflow:
    """The recipe as parameters, each epoch's figures as metrics; a resumed run goes on in the same MLflow run."""

    def __init__(self, run: RunDirectory, keys: Recipe) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client = MlflowClient()
        self._run: Any = run.info.get("mlflow_run")
        if self._run is not None:
            self._client.update_run(self._run, "RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or run.info["name"]
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name)
        self._run = self._client.create_run(experiment, run_name=run.path.name).info.run_id
        parameters = [
            Param(f"{section}.{key}", str(value))
            for section, values in dataclasses.asdict(keys).items()
            for key, value in values.items()
        ]
        self._client.log_batch(self._run, params=parameters)
        self._client.set_tag(self._run, "dataset", run.info["dataset"])
        write_json(run / "run.json", {**run.info, "mlflow_run": self._run})

    def follow(self, event: Event) -> None:
        """See `Tracker`."""
        from mlflow.entities import Metric

        if not isinstance(event, Step):
            group, now = "pretrain_" if isinstance(event, Pretrained) else "", int(time.time() * 1000)
            metrics = [Metric(group + name, value, now, event.epoch) for name, value in _figures(event).items()]
            self._client.log_batch(self._run, metrics=metrics)

    def close(self, status: str) -> None:
        """See `Tracker`."""
        self._client.set_terminated(self._run, status)


def _open(name: str, run: RunDirectory, keys: Recipe) -> Tracker:
    try:
        return TensorBoard(run, keys) if name == "tensorboard" else MLflow(run, keys)
    except ImportError as error:
        raise UsageError(
            f"--track {name}: needs {error.name}, which is not installed: `pip install 'pipeline[{name}]'`."
        ) from error
    except Exception as error:
        raise PipelineError(f"--track {name}: {error}. Mend it, or train without --track {name}.") from error


def _figures(event: Pretrained | Epoch) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in vars(event).items()
        if isinstance(value, (int, float)) and not name.startswith("epoch")
    }
