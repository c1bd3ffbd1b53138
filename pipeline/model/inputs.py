"""What stands before the recurrent layers: token ids or raw frames to steps of vectors.

Legend: B rows in a batch, T steps, F numbers in a step.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

_FIT_ROWS = 2**16
_EPSILON = 1e-5
LARGEST = 1e6  # standard deviations; the gates saturate long before, and products of larger numbers overflow


class TokenEmbedding(nn.Embedding):
    """Token ids to vectors; id 0, padding and the one step of an empty text, is the zero vector and stays it.

    Args:
        dropout: share of the vocabulary that reads as the zero vector, anew in each training batch.

    Shapes:
        token_ids: (B, T) int64 → (B, T, F).

    Source: Gal and Ghahramani 2016, A Theoretically Grounded Application of Dropout in Recurrent Neural Networks.
    """

    def __init__(self, vocabulary_size: int, size: int, dropout: float = 0.0) -> None:
        super().__init__(vocabulary_size, size, padding_idx=0)
        self.dropout = dropout
        nn.init.normal_(self.weight[1:].data, std=0.1)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name nn.Embedding gives it
        """Look up; see the class for shapes."""
        vectors = super().forward(input)
        if not (self.training and self.dropout):
            return vectors
        kept = functional.dropout(torch.ones(self.num_embeddings, device=vectors.device), self.dropout)
        return vectors * kept[input][:, :, None]


class FrameStandardisation(nn.Module):
    """Frames to zero mean and unit variance, as measured on the training split.

    Shapes:
        features: (B, T, F) → (B, T, F).
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, feature_size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(feature_size))
        self.register_buffer("scale", torch.ones(feature_size))

    def fit(self, frames: np.ndarray) -> np.ndarray:
        """Measure mean and scale on all frames, (S, F), of the training split; a constant feature keeps scale 1.

        Returns:
            (F,) float32 standard deviations.
        """
        # A part at a time as float64: all of them may be larger than the memory.
        parts = [frames[start : start + _FIT_ROWS] for start in range(0, len(frames), _FIT_ROWS)]
        mean = sum(part.sum(0, dtype=np.float64) for part in parts) / len(frames)
        deviation = np.sqrt(sum(np.square(part - mean).sum(0) for part in parts) / len(frames))
        self.mean.copy_(torch.from_numpy(mean))
        self.scale.copy_(torch.from_numpy(1 / np.where(deviation > 0, deviation, 1)))
        measured: np.ndarray = deviation.astype(np.float32)
        return measured

    def forward(self, features: Tensor) -> Tensor:
        """Standardise, finite whatever comes in: a number that is not counts as the mean."""
        standardised = torch.where(features.isfinite(), (features - self.mean) * self.scale, 0.0)
        return standardised.clamp(-LARGEST, LARGEST)


class InstanceNorm(nn.Module):
    """Each row's frames to zero mean and unit variance of its own: what a speaker or a microphone adds to all goes.

    Shapes:
        steps: (B, T, F), lengths: (B,), is_valid: (B, T, 1) → (B, T, F).

    Source: Ulyanov et al. 2016, Instance Normalization; in speech, cepstral mean and variance normalisation.
    """

    def forward(self, steps: Tensor, lengths: Tensor, is_valid: Tensor) -> Tensor:
        """Normalise; padding is neither measured nor anything but zero."""
        count = lengths[:, None, None]
        mean = torch.where(is_valid, steps, 0.0).sum(1, keepdim=True) / count
        centred = torch.where(is_valid, steps - mean, 0.0)
        variance = centred.square().sum(1, keepdim=True) / count
        return centred * torch.rsqrt(variance + _EPSILON)


class Convolution(nn.Module):
    """A convolution over the steps, as wide as its input: local patterns before memory.

    Shapes:
        steps: (B, T, F), is_valid: (B, T, 1) → (B, T, F).

    Source: Zhou et al. 2015, A C-LSTM Neural Network for Text Classification.
    """

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.filters = nn.Conv1d(size, size, width, padding=width // 2)

    def forward(self, steps: Tensor, is_valid: Tensor) -> Tensor:
        """Convolve; padding reads as zeros, as what lies beyond the ends of a row does."""
        inside = torch.where(is_valid, steps, 0.0).transpose(1, 2)  # (B, F, T)
        return torch.relu(self.filters(inside)).transpose(1, 2)
