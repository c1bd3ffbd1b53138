"""Optimisers by their names in the recipe."""

import torch

from pipeline.recipe import TrainKeys


def make_optimizer(model: torch.nn.Module, keys: TrainKeys) -> torch.optim.Optimizer:
    """Return the optimiser that a recipe names, over all of a model's parameters."""
    parameters = list(model.parameters())
    rate, decay = keys.learning_rate, keys.weight_decay
    if keys.optimizer == "adam":
        return torch.optim.Adam(parameters, rate, weight_decay=decay)
    if keys.optimizer == "adamw":
        return torch.optim.AdamW(parameters, rate, weight_decay=decay)
    if keys.optimizer == "rmsprop":
        return torch.optim.RMSprop(parameters, rate, momentum=keys.momentum, weight_decay=decay)
    return torch.optim.SGD(parameters, rate, momentum=keys.momentum, weight_decay=decay)
