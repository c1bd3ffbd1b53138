"""Temperature scaling: probabilities that mean what they say, without changing a label.

Source: Guo et al. 2017, On Calibration of Modern Neural Networks.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.metrics import calibration
from pipeline.model import LSTMClassifier
from pipeline.model.scoring import logits_of
from pipeline.train.batches import Examples

_STEPS = 50


def calibrate(model: LSTMClassifier, validation: Examples) -> dict[str, Any]:
    """Fit a temperature to the validation split and fold it into the model's last layer.

    Returns:
        The temperature (above 1: the model was too sure), and loss in nats and expected calibration error on the
        validation split before and after.
    """
    logits, labels = logits_of(model, validation.sequences).double(), torch.from_numpy(validation.labels)
    temperature = fit_temperature(logits, labels)
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.div_(temperature)
    return {
        "temperature": temperature,
        "before": _figures(logits, validation.labels),
        "after": _figures(logits / temperature, validation.labels),
    }


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the temperature, within 1/20 and 20, that gives logits, (N, C), over labels, (N,), the least loss.

    The loss is convex in the inverse temperature: where its slope is zero is found by halving. One more row, of which
    nothing is known, counts too: without it, answers without a mistake would all become certain.

    Source, of that row: Platt 1999, Probabilistic Outputs for Support Vector Machines.
    """
    low, high = 1 / 20, 20.0
    smoothing = 1 / (len(labels) + 1)
    for _ in range(_STEPS):
        inverse = torch.tensor((low * high) ** 0.5, dtype=torch.float64, requires_grad=True)
        loss = functional.cross_entropy(logits * inverse, labels, label_smoothing=smoothing)
        (slope,) = torch.autograd.grad(loss, inverse)
        low, high = (low, inverse.item()) if slope > 0 else (inverse.item(), high)
    return float((low * high) ** -0.5)


def _figures(logits: Tensor, labels: np.ndarray) -> dict[str, float]:
    probabilities = torch.softmax(logits, 1).numpy()
    return {
        "loss": functional.cross_entropy(logits, torch.from_numpy(labels)).item(),
        "expected_calibration_error": calibration(probabilities, labels)["expected_calibration_error"],
    }
