"""Hyper-parameter search with Optuna: which keys, between which bounds, stands in a TOML file.

::

    ["train.learning_rate"]
    low = 1e-4
    high = 1e-2
    log = true

    ["model.pooling"]
    choices = ["max", "mean", "max+mean"]
"""

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import recipe
from pipeline.dataset import Dataset
from pipeline.errors import PipelineError, UsageError
from pipeline.train.loop import Epoch, Training, train_epochs
from pipeline.train.prepare import check_recipe, prepare
from pipeline.train.state import State

Space = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Trial:
    """One setting that was tried.

    Attributes:
        number: from 0; trials of earlier sessions count.
        settings: ``section.key=value``, as ``--set`` takes them.
        accuracy: of the best epoch on the validation split; None if it was given up early, or failed.
    """

    number: int
    settings: tuple[str, ...]
    accuracy: float | None


def search(
    data: Path,
    name: str | None,
    settings: tuple[str, ...],
    space: Path,
    study: Path,
    *,
    trials: int = 20,
    tried: Callable[[Trial], None] = lambda _: None,
) -> Trial:
    """Try settings and return the best one; a study's file is gone on with.

    Trials that fall behind the median of the others after an epoch are given up.

    Args:
        data: a prepared data set.
        name: the recipe that every trial starts from.
        settings: on top of it.
        space: the TOML file of the keys to vary.
        study: Optuna's SQLite file, made if it is not there.
        trials: how many more to try.
        tried: told of each.

    Raises:
        UsageError: Optuna is not installed, or the space names wrong keys or bounds.
        PipelineError: no trial came to its end.
    """
    try:
        import optuna
    except ImportError as error:
        raise UsageError("pipeline search: needs Optuna. Install it with `pip install 'pipeline[search]'`.") from error
    bounds = read_space(space)
    dataset = Dataset(data)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    chosen = optuna.create_study(
        storage=f"sqlite:///{study}",
        study_name=study.stem,
        direction="maximize",
        load_if_exists=True,
        sampler=optuna.samplers.TPESampler(seed=0),
        pruner=optuna.pruners.MedianPruner(),
    )

    def objective(trial: Any) -> float:
        keys = recipe.load(name, (*settings, *_drawn(trial, bounds)))
        check_recipe(keys, dataset)
        best = 0.0
        for event in _epochs(dataset, keys):
            best = max(best, event.validation_accuracy)
            trial.report(best, event.epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return best

    def report(_: Any, frozen: Any) -> None:
        tried(Trial(frozen.number, _settings(frozen.params), frozen.value if frozen.state.name == "COMPLETE" else None))

    chosen.optimize(objective, n_trials=trials, callbacks=[report], catch=(PipelineError,))
    if not any(one.state.name == "COMPLETE" for one in chosen.trials):
        raise PipelineError(f"{study}: no trial came to its end. Narrow the bounds in {space}.")
    best = chosen.best_trial
    return Trial(best.number, _settings(best.params), best.value)


def read_space(path: Path) -> Space:
    """Read which keys to vary, and between which bounds.

    Raises:
        UsageError: it is not such a file, or a bound is not a value of its key.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: no space to search: {error}.") from error
    for key, bounds in content.items():
        ends = bounds.get("choices") or [bounds.get("low"), bounds.get("high")] if isinstance(bounds, dict) else None
        if not ends or None in ends:
            raise UsageError(f'{path}: ["{key}"]: wanted low and high, or choices, got {bounds!r}.')
        for end in ends:
            recipe.load(None, (f"{key}={_toml(end)}",))
    if not content:
        raise UsageError(f"{path}: names no key to vary.")
    return content


def _drawn(trial: Any, space: Space) -> tuple[str, ...]:
    values = {}
    for key, bounds in space.items():
        if "choices" in bounds:
            values[key] = trial.suggest_categorical(key, bounds["choices"])
        elif isinstance(bounds["low"], int) and isinstance(bounds["high"], int):
            values[key] = trial.suggest_int(key, bounds["low"], bounds["high"], log=bounds.get("log", False))
        else:
            values[key] = trial.suggest_float(key, bounds["low"], bounds["high"], log=bounds.get("log", False))
    return _settings(values)


def _settings(values: dict[str, Any]) -> tuple[str, ...]:
    return tuple(f"{key}={_toml(value)}" for key, value in values.items())


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _epochs(dataset: Dataset, keys: recipe.Recipe) -> Any:
    prepared = prepare(dataset, keys)
    training = Training(keys, prepared.training, prepared.validation, prepared.augmentation)
    for event in train_epochs(State.fresh(prepared.model, keys.train), training):
        if isinstance(event, Epoch):
            yield event
