"""Small changes of embedded steps, as adversarial training and the attack make them."""

import torch
from torch import Tensor

_TINY = torch.finfo(torch.float32).tiny


def scaled(direction: Tensor, steps: Tensor, lengths: Tensor, size: float) -> Tensor:
    """Return a direction cut to the valid steps and brought to a length in each row; a row without one stays as it is.

    The L2 norm over all of a row's steps is ``size`` times the root mean square of the norms of the row's steps.

    Shapes:
        direction, steps: (B, T, F), lengths: (B,) → (B, T, F) float32.
    """
    is_valid = (torch.arange(steps.shape[1], device=steps.device) < lengths[:, None])[:, :, None]
    direction = torch.where(is_valid, direction, 0.0).float()
    # First to a largest number of 1: the squares of the gradients of a sure answer are below float32's least.
    direction = direction / direction.abs().amax((1, 2), keepdim=True).clamp(min=_TINY)
    energy = torch.where(is_valid, steps, 0.0).float().square().sum((1, 2)) / lengths
    norm = direction.square().sum((1, 2)).sqrt().clamp(min=_TINY)
    return direction * (size * energy.sqrt() / norm)[:, None, None]
