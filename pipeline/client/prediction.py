"""What the model says of one row."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says of one row.

    Attributes:
        label: the class of the largest probability.
        probability: that class's probability.
        probabilities: every class's probability, by label name.
        valid: whether the row was what it should be: text in UTF-8, or frames of finite numbers.
    """

    label: str
    probability: float
    probabilities: dict[str, float]
    valid: bool


def shortest(probability: float) -> float:
    """Return a float32 with the digits that it has, not those of the double it became."""
    return float(str(np.float32(probability)))
