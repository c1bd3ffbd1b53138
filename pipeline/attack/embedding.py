"""Accuracy when the embedded input moves along the gradient: to first order the worst that small changes can do.

Source: the fast gradient method, Miyato et al. 2017, Adversarial Training Methods for Semi-Supervised Text
Classification.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.model import LSTMClassifier
from pipeline.model.perturbation import scaled
from pipeline.sequences import Sequences, length_batches

EPSILONS = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_BATCH = 64


def epsilon_curve(model: LSTMClassifier, sequences: Sequences, labels: np.ndarray) -> list[dict[str, float]]:
    """Return the accuracy at each of `EPSILONS`.

    ε is the L2 norm of a row's change over all its steps, in root-mean-square norms of its embedded (or standardised)
    steps: the unit of the recipe's ``adversarial.size``.
    """
    right = np.zeros(len(EPSILONS))
    for indices in length_batches(sequences.lengths, _BATCH):
        inputs, lengths = (torch.from_numpy(array) for array in sequences.padded(indices))
        right += _right(model.eval(), inputs, lengths, torch.from_numpy(labels[indices]))
    return [
        {"epsilon": epsilon, "accuracy": count / len(labels)} for epsilon, count in zip(EPSILONS, right, strict=True)
    ]


def _right(model: LSTMClassifier, inputs: Tensor, lengths: Tensor, labels: Tensor) -> list[int]:
    """Return how many rows keep their true label at each ε."""
    steps = model.embedding(inputs).detach().requires_grad_()
    loss = functional.cross_entropy(model.forward_steps(steps, lengths), labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, steps)
    unit = scaled(gradient, steps.detach(), lengths, 1.0)
    with torch.inference_mode():
        answers = [model.forward_steps(steps + epsilon * unit, lengths).argmax(1) for epsilon in EPSILONS]
    return [int((answer == labels).sum()) for answer in answers]
