"""Everything that the next step of training depends on, and its form on disk.

Batches, augmentation and dropout draw from generators that seed, epoch and step decide, and the learning rate is a
function of the same: so two counters stand for the sampler, the scheduler and every random state.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pipeline.errors import RunError
from pipeline.files import write_bytes
from pipeline.model import LSTMClassifier
from pipeline.recipe import TrainKeys
from pipeline.train.optimizer import ClassifierOptimizer


@dataclass
class Tally:
    """Sums over one epoch's steps.

    Attributes:
        loss: of each step, times its rows.
        rows: sequences learned from.
        tokens: valid steps learned from.
        norm: of the gradients before clipping.
        clipped: steps whose gradient was clipped.
        seconds: time spent.
        learning_rate: of the last step.
    """

    loss: float = 0.0
    rows: int = 0
    tokens: int = 0
    norm: float = 0.0
    clipped: int = 0
    seconds: float = 0.0
    learning_rate: float = 0.0


@dataclass
class State:
    """Where training stands, between two steps.

    Attributes:
        model: the classifier that learns.
        optimizer: over its parameters.
        average: the mean of its weights, when the recipe asks for one.
        best: the weights of the best epoch so far; empty before the first one ends.
        epoch: the current one, from 1.
        step: optimiser steps done in it.
        tally: of the current epoch.
        history: a record of each epoch that is done.
    """

    model: LSTMClassifier
    optimizer: ClassifierOptimizer
    average: AveragedModel | None
    best: dict[str, Tensor] = field(default_factory=dict)
    epoch: int = 1
    step: int = 0
    tally: Tally = field(default_factory=Tally)
    history: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def fresh(cls, model: LSTMClassifier, keys: TrainKeys, *, is_sparse: bool = True) -> "State":
        """Return the state before the first step."""
        average = None
        if keys.ema_decay:
            average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(keys.ema_decay))  # type: ignore[no-untyped-call]
        elif keys.swa_from:
            average = AveragedModel(model)
        return cls(model, ClassifierOptimizer(model, keys, is_sparse=is_sparse), average)

    @property
    def best_epoch(self) -> int:
        """The last epoch that was better than all before it; 0 if none is done."""
        return max((record["epoch"] for record in self.history if record["is_best"]), default=0)

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all.

        Raises:
            PipelineError: the disk is full; the earlier checkpoint is intact.
        """
        tensors: dict[str, Tensor] = {}
        numbers: dict[str, float] = {}
        for name, value in self.optimizer.state():
            if isinstance(value, Tensor):
                tensors[f"optimizer:{name}"] = value
            else:
                numbers[f"optimizer:{name}"] = value
        for place, weights in self._modules():
            tensors |= {f"{place}:{name}": value for name, value in weights.items()}
        tensors |= {f"best:{name}": value for name, value in self.best.items()}
        content = {
            "format": 1,
            "epoch": self.epoch,
            "step": self.step,
            "tally": dataclasses.asdict(self.tally),
            "history": self.history,
            "numbers": numbers,
        }
        contiguous = {name: value.detach().contiguous() for name, value in tensors.items()}
        write_bytes(path, safetensors.torch.save(contiguous, {"state": json.dumps(content)}))

    def load(self, path: Path) -> None:
        """Take back what `save` wrote.

        Raises:
            RunError: the checkpoint is damaged, or belongs to another recipe.
        """
        try:
            with safetensors.safe_open(path, "pt") as file:
                content = json.loads(file.metadata()["state"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            everything = {**content["numbers"], **tensors}
            self.optimizer.load_state(
                {name.partition(":")[2]: one for name, one in everything.items() if name.startswith("optimizer:")}
            )
            for place, weights in self._modules():
                for name, value in weights.items():
                    value.copy_(tensors[f"{place}:{name}"])
            self.best = {name.partition(":")[2]: one for name, one in tensors.items() if name.startswith("best:")}
            self.epoch, self.step, self.history = content["epoch"], content["step"], content["history"]
            self.tally = Tally(**content["tally"])
        except (safetensors.SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise RunError(f"{path}: not a checkpoint of this run ({error}). Train again.") from error

    def _modules(self) -> list[tuple[str, dict[str, Tensor]]]:
        modules: list[tuple[str, nn.Module]] = [("model", self.model)]
        if self.average is not None:
            modules.append(("average", self.average))
        return [(place, module.state_dict()) for place, module in modules]


def copied(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights that later steps do not change."""
    return {name: value.detach().clone() for name, value in weights.items()}
