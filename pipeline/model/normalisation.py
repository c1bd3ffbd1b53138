"""Normalisation of a layer's outputs, blind to padding."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class StepLayerNorm(nn.LayerNorm):
    """Each step on its own to zero mean and unit variance.

    Shapes:
        steps: (B, T, F), is_valid: (B, T, 1) → (B, T, F).

    Source: Ba et al. 2016.
    """

    def forward(self, steps: Tensor, is_valid: Tensor) -> Tensor:  # type: ignore[override]  # noqa: ARG002
        """Normalise; a step knows nothing of the others, so padding needs no care."""
        return super().forward(steps)


class StepBatchNorm(nn.Module):
    """Each number to zero mean and unit variance over a batch's valid steps; as measured in training, when it answers.

    Shapes:
        steps: (B, T, F), is_valid: (B, T, 1) → (B, T, F).

    Source: Ioffe and Szegedy 2015.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size))
        self.register_buffer("running_mean", torch.zeros(size))
        self.register_buffer("running_var", torch.ones(size))

    def forward(self, steps: Tensor, is_valid: Tensor) -> Tensor:
        """Normalise; in training, padding is not measured."""
        if not self.training:
            return self._normalised(steps.flatten(0, 1)).view_as(steps)
        chosen = steps[is_valid[:, :, 0]]  # (S, F)
        if len(chosen) == 1:  # has no variance; left as it is
            return steps
        normalised = self._normalised(chosen)
        return torch.zeros_like(steps, dtype=normalised.dtype).masked_scatter(is_valid, normalised)

    def _normalised(self, steps: Tensor) -> Tensor:
        return functional.batch_norm(
            steps, self.running_mean, self.running_var, self.weight, self.bias, training=self.training
        )


class NoNorm(nn.Module):
    """Outputs as they are."""

    def forward(self, steps: Tensor, is_valid: Tensor) -> Tensor:  # noqa: ARG002
        """Return the steps."""
        return steps


NORMS: dict[str, type[nn.Module] | None] = {
    "none": None,
    "layer": StepLayerNorm,
    "batch": StepBatchNorm,
}


def make_norm(kind: str, size: int) -> nn.Module:
    """Return the normalisation a recipe names."""
    norm = NORMS[kind]
    return norm(size) if norm else NoNorm()
