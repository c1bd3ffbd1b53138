"""Optimisers by their names in the recipe, and what happens to gradients before they are applied."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.model.classifier import LSTMClassifier
from pipeline.model.inputs import TokenEmbedding
from pipeline.recipe import TrainKeys


class ClassifierOptimizer:
    """One optimiser for a classifier's dense parameters and, where it pays, one for the token vectors' rows.

    With Adam and AdamW only the vectors of the tokens in a batch are moved, and their moments are kept as they were
    last seen (PyTorch's SparseAdam): a batch touches a few hundred of tens of thousands of rows. Weight decay pulls the
    matrices of the layers and leaves token vectors, biases and normalisation alone.
    """

    def __init__(self, model: LSTMClassifier, keys: TrainKeys, *, is_sparse: bool = True) -> None:
        """Make the optimisers.

        Args:
            model: its parameters that require a gradient are moved.
            keys: the recipe's.
            is_sparse: whether token vectors get sparse gradients, which cannot be added up over processes.
        """
        self._keys = keys
        depths = _depths(model)
        self._rows: list[nn.Parameter] = []
        embedding = model.embedding
        if isinstance(embedding, TokenEmbedding) and keys.optimizer.startswith("adam"):
            self._rows = [one for one in embedding.parameters() if one.requires_grad]
            embedding.sparse = bool(self._rows) and is_sparse
        self.parts: list[torch.optim.Optimizer] = [_dense(list(_groups(depths, self._rows, keys)), keys)]
        if self._rows:
            self.parts.append(
                torch.optim.SparseAdam([{"params": self._rows, "depth": max(depths)}], keys.learning_rate)
            )

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Every parameter, in the order of the groups."""
        return [parameter for part in self.parts for group in part.param_groups for parameter in group["params"]]

    def set_rate(self, rate: float, epoch: int) -> None:
        """Set the learning rate of each depth; freeze what gradual unfreezing has not reached yet.

        Source: discriminative rates and gradual unfreezing: Howard and Ruder 2018, ULMFiT.
        """
        for part in self.parts:
            for group in part.param_groups:
                is_frozen = self._keys.gradual_unfreezing and group["depth"] >= epoch
                group["lr"] = rate * self._keys.layer_decay ** group["depth"]
                for parameter in group["params"]:
                    parameter.requires_grad_(not is_frozen)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for part in self.parts:
            part.zero_grad()

    def gradients(self) -> list[Tensor]:
        """Return every gradient's numbers; of token vectors that move by rows, the rows that have any."""
        for parameter in self._rows:
            if parameter.grad is not None:
                parameter.grad = parameter.grad.coalesce() if parameter.grad.is_sparse else parameter.grad.to_sparse(1)
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        return [gradient.values() if gradient.is_sparse else gradient for gradient in gradients]

    def clip(self) -> tuple[float, bool]:
        """Cut gradients by value, then by norm, as the recipe says.

        Returns:
            The norm before, infinite or NaN if it is, and whether anything was cut.
        """
        gradients, most = self.gradients(), self._keys.clip_value
        norm = cut = float(torch.nn.utils.get_total_norm(gradients))
        is_clipped = False
        if most:
            is_clipped = float(torch.nn.utils.get_total_norm(gradients, math.inf)) > most
            torch._foreach_clamp_min_(gradients, -most)
            torch._foreach_clamp_max_(gradients, most)
            cut = float(torch.nn.utils.get_total_norm(gradients))
        if math.isfinite(cut) and cut > self._keys.clip_norm:
            is_clipped = True
            torch._foreach_mul_(gradients, self._keys.clip_norm / cut)
        return norm, is_clipped

    def step(self) -> None:
        """Move the parameters."""
        for part in self.parts:
            part.step()

    def state(self) -> Iterator[tuple[str, Any]]:
        """Yield a name and a value, a tensor or a number, for everything that a step depends on."""
        for number, part in enumerate(self.parts):
            for index, values in part.state_dict()["state"].items():
                yield from ((f"{number}/{index}/{name}", value) for name, value in values.items())

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        for number, part in enumerate(self.parts):
            content = part.state_dict()
            content["state"] = {}
            for path, value in state.items():
                part_number, index, name = path.split("/")
                if int(part_number) == number:
                    content["state"].setdefault(int(index), {})[name] = value
            part.load_state_dict(content)


def _depths(model: LSTMClassifier) -> dict[int, list[nn.Parameter]]:
    """Return the trainable parameters by their distance from the answer: 0 for the head's."""
    last = len(model.layers)
    depths: dict[int, list[nn.Parameter]] = {depth: [] for depth in range(last + 2)}
    for name, parameter in model.named_parameters():
        place, _, rest = name.partition(".")
        if place in {"layers", "norms"}:
            depth = last - int(rest.partition(".")[0])
        else:
            depth = 0 if place in {"head", "pool"} else last + 1
        if parameter.requires_grad:
            depths[depth].append(parameter)
    return depths


def _groups(
    depths: dict[int, list[nn.Parameter]], apart: list[nn.Parameter], keys: TrainKeys
) -> Iterator[dict[str, Any]]:
    """Yield a group for each depth and each weight decay."""
    deepest = max(depths)
    for depth, parameters in depths.items():
        others = [parameter for parameter in parameters if not any(parameter is one for one in apart)]
        decayed = [one for one in others if one.ndim > 1 and depth < deepest]
        undecayed = [one for one in others if not (one.ndim > 1 and depth < deepest)]
        for chosen, decay in ((decayed, keys.weight_decay), (undecayed, 0.0)):
            if chosen:
                yield {"params": chosen, "weight_decay": decay, "depth": depth}


def _dense(groups: list[dict[str, Any]], keys: TrainKeys) -> torch.optim.Optimizer:
    rate = keys.learning_rate
    if keys.optimizer == "adam":
        return torch.optim.Adam(groups, rate, fused=True)
    if keys.optimizer == "adamw":
        return torch.optim.AdamW(groups, rate, fused=True)
    if keys.optimizer == "rmsprop":
        return torch.optim.RMSprop(groups, rate, momentum=keys.momentum, foreach=True)
    return torch.optim.SGD(groups, rate, momentum=keys.momentum, nesterov=keys.nesterov, fused=True)
