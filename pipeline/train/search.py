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
from pipeline.train.prepare import prepare_and_pretrain
from pipeline.train.state import State

Distributions = dict[str, Any]  # Optuna's, by the keys of the recipe
_BOUNDS = {"low", "high", "log"}


@dataclass(frozen=True)
class Trial:
    """One setting that was tried.

    Attributes:
        number: from 0; trials of earlier sessions count.
        settings: ``section.key=value``, as ``--set`` takes them.
        accuracy: on the validation split, of the epoch that training would keep; None if it did not come to its end.
        reason: why it did not.
    """

    number: int
    settings: tuple[str, ...]
    accuracy: float | None
    reason: str = ""


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
        UsageError: Optuna is not installed, the space names wrong keys or bounds, or the study is of another space.
        PipelineError: the study's file cannot be used, or no trial came to its end.
    """
    distributions = read_space(space)
    dataset, chosen = Dataset(data), _opened(study)
    for _ in range(trials):
        try:
            trial = chosen.ask(distributions)
        except ValueError as error:
            raise UsageError(
                f"{space}: not the space that {study} was searched in ({error}). Choose another --study."
            ) from error
        tried(_tried(chosen, trial, name, settings, dataset))
    if not any(one.state.name == "COMPLETE" for one in chosen.trials):
        raise PipelineError(f"{study}: no trial came to its end. Narrow the bounds in {space}.")
    best = chosen.best_trial
    return Trial(best.number, _settings(best.params), best.value)


def read_space(path: Path) -> Distributions:
    """Read which keys to vary, and between which bounds.

    Raises:
        UsageError: it is not such a file, or a bound is not a value of its key; or Optuna is not installed.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: no space to search: {error}.") from error
    if not content:
        raise UsageError(f"{path}: names no key to vary.")
    return {key: _distribution(path, key, bounds) for key, bounds in content.items()}


def _distribution(path: Path, key: str, bounds: Any) -> Any:
    distributions = _optuna().distributions
    wanted = f'{path}: ["{key}"]: wanted low and high, or choices, got {bounds!r}.'
    if not isinstance(bounds, dict) or not (set(bounds) == {"choices"} or {"low", "high"} <= set(bounds) <= _BOUNDS):
        raise UsageError(wanted)
    ends = bounds.get("choices", [bounds.get("low"), bounds.get("high")])
    if not isinstance(ends, list) or not ends:
        raise UsageError(wanted)
    kinds = [recipe.type_of(f"{key}={_toml(end)}") for end in ends]
    numbers = {int: distributions.IntDistribution, float: distributions.FloatDistribution}
    try:
        if "choices" in bounds:
            return distributions.CategoricalDistribution(ends)
        if kinds[0] not in numbers:
            raise UsageError(wanted)
        return numbers[kinds[0]](*ends, log=bounds.get("log", False))
    except ValueError as error:
        raise UsageError(f"{wanted} {str(error).rstrip('.')}.") from error


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise UsageError("pipeline search: needs Optuna. Install it with `pip install 'pipeline[search]'`.") from error
    return optuna


def _opened(study: Path) -> Any:
    """Return a study, which draws otherwise than in its earlier sessions."""
    optuna = _optuna()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        opened = optuna.create_study(
            storage=f"sqlite:///{study}",
            study_name=study.stem,
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(),
        )
    except Exception as error:
        raise PipelineError(
            f"{study}: no file that a study can be kept in: {str(error).splitlines()[0]}. Choose another --study."
        ) from error
    opened.sampler = optuna.samplers.TPESampler(seed=len(opened.trials))
    return opened


def _tried(study: Any, trial: Any, name: str | None, settings: tuple[str, ...], dataset: Dataset) -> Trial:
    """Try one setting and tell the study how it went."""
    given = _settings(trial.params)
    accuracy, state, reason = None, "FAIL", ""
    try:
        accuracy = _accuracy(trial, recipe.load(name, (*settings, *given)), dataset)
        state, reason = ("PRUNED", "given up") if accuracy is None else ("COMPLETE", "")
    except PipelineError as error:
        reason = str(error)
    finally:
        study.tell(trial, accuracy, state=_optuna().trial.TrialState[state])
    return Trial(trial.number, given, accuracy, reason)


def _accuracy(trial: Any, keys: recipe.Recipe, dataset: Dataset) -> float | None:
    """Train, and return the accuracy of the epoch that is kept; None if the trial is given up on the way."""
    prepared = prepare_and_pretrain(dataset, keys)
    training = Training(keys, prepared.training, prepared.validation, prepared.augmentation)
    accuracy = 0.0
    for event in train_epochs(State.fresh(prepared.model, keys.train), training):
        if isinstance(event, Epoch):
            accuracy = accuracy if event.weights is None else event.validation_accuracy
            trial.report(accuracy, event.epoch)
            if trial.should_prune():
                return None
    return accuracy


def _settings(values: dict[str, Any]) -> tuple[str, ...]:
    return tuple(f"{key}={_toml(value)}" for key, value in values.items())


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
