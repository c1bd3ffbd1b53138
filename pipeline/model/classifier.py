"""The classifier: embedding or standardised frames → (bi)LSTM layers → pooling over valid steps → linear.

Legend: B rows in a batch, T steps, F numbers in a frame, H units of the LSTM, C classes.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.model.lstm import LSTMLayer, OnnxLSTM
from pipeline.recipe import ModelKeys

LARGEST = 1e6  # standard deviations; the gates saturate long before, and products of larger numbers overflow


@dataclass(frozen=True)
class Shape:
    """What the data decides about a model; the recipe decides the rest.

    Attributes:
        classes: C.
        vocabulary_size: token ids there are, the padding and the unknown one included; None for features.
        feature_size: F; None for text.
    """

    classes: int
    vocabulary_size: int | None = None
    feature_size: int | None = None


class LSTMClassifier(nn.Module):
    """Sequences in, logits out; an answer depends on its own row alone.

    Shapes:
        inputs: (B, T) int64 token ids or (B, T, F) float32 frames, right-padded; lengths: (B,) int64 in 1…T
        → logits: (B, C).
    """

    def __init__(self, keys: ModelKeys, shape: Shape) -> None:
        super().__init__()
        self.embedding: nn.Embedding | FrameStandardisation
        if shape.vocabulary_size is not None:
            self.embedding, size = _token_embedding(shape.vocabulary_size, keys.embedding_size), keys.embedding_size
        elif shape.feature_size is not None:
            self.embedding, size = FrameStandardisation(shape.feature_size), shape.feature_size
        else:
            raise ValueError("a model reads tokens or features: one of the two sizes must be given")
        width = keys.hidden_size * (2 if keys.bidirectional else 1)
        self.layers = nn.ModuleList(
            LSTMLayer(size if number == 0 else width, keys.hidden_size, bidirectional=keys.bidirectional)
            for number in range(keys.layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) if keys.layer_norm else nn.Identity() for _ in self.layers)
        self.is_residual = keys.residual
        self.pool = Pooling(keys.pooling, keys.hidden_size, width)
        self.dropout = nn.Dropout(keys.dropout)
        self.head = nn.Linear(self.pool.width, shape.classes)
        nn.init.xavier_uniform_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    @property
    def lstm_layers(self) -> list[LSTMLayer]:
        """The layers, typed."""
        return [layer for layer in self.layers if isinstance(layer, LSTMLayer)]

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Return logits; see the class for shapes."""
        steps = self.embedding(inputs)  # (B, T, F)
        for number, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            outputs = norm(layer(self.dropout(steps), lengths))  # (B, T, D·H)
            steps = steps + outputs if self.is_residual and number else outputs
        return self.head(self.dropout(self.pool(steps, lengths)))  # type: ignore[no-any-return]  # (B, C)


def with_onnx_layers(model: LSTMClassifier) -> LSTMClassifier:
    """Return a copy in evaluation mode whose layers are `OnnxLSTM`: the form that is exported."""
    exportable = copy.deepcopy(model).eval()
    exportable.layers = nn.ModuleList(OnnxLSTM(layer) for layer in model.lstm_layers)
    return exportable


def _token_embedding(vocabulary_size: int, embedding_size: int) -> nn.Embedding:
    """Token ids to vectors; id 0, padding and the one step of an empty text, is the zero vector and stays it."""
    embedding = nn.Embedding(vocabulary_size, embedding_size, padding_idx=0)
    nn.init.normal_(embedding.weight[1:].data, std=0.1)
    return embedding


class FrameStandardisation(nn.Module):
    """Frames to zero mean and unit variance, as measured on the training split."""

    mean: Tensor
    scale: Tensor

    def __init__(self, feature_size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(feature_size))
        self.register_buffer("scale", torch.ones(feature_size))

    def fit(self, frames: Tensor) -> None:
        """Measure mean and scale on all frames, (S, F), of the training split; a constant feature keeps scale 1."""
        mean, deviation = frames.double().mean(0), frames.double().std(0, correction=0)
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(deviation > 0, 1 / deviation, 1))

    def forward(self, features: Tensor) -> Tensor:
        """(B, T, F) → (B, T, F), finite whatever comes in: a number that is not counts as the mean."""
        standardised = torch.where(features.isfinite(), (features - self.mean) * self.scale, 0.0)
        return standardised.clamp(-LARGEST, LARGEST)


class Pooling(nn.Module):
    """Steps to one vector, by length and never by position from the end; several kinds are concatenated.

    Shapes:
        steps: (B, T, D·H), lengths: (B,) → (B, K·D·H), K kinds.

    Source: attention: Yang et al. 2016, Hierarchical Attention Networks, equations 5–7.
    """

    def __init__(self, kinds: str, hidden_size: int, width: int) -> None:
        super().__init__()
        self.kinds = kinds.split("+")
        self.hidden_size = hidden_size
        self.width = width * len(self.kinds)
        if "attention" in self.kinds:
            self.key = nn.Linear(width, width)
            self.query = nn.Linear(width, 1, bias=False)

    def forward(self, steps: Tensor, lengths: Tensor) -> Tensor:
        """Pool; see the class for shapes. Where, not multiplication: past a row's length there may be NaN."""
        is_valid = (torch.arange(steps.shape[1], device=steps.device) < lengths[:, None])[:, :, None]  # (B, T, 1)
        pooled = {
            "max": lambda: torch.where(is_valid, steps, -torch.inf).amax(1),
            "mean": lambda: torch.where(is_valid, steps, 0.0).sum(1) / lengths[:, None],
            "last": lambda: self._last(steps, lengths),
            "attention": lambda: self._attention(torch.where(is_valid, steps, 0.0), is_valid),
        }
        return torch.cat([pooled[kind]() for kind in self.kinds], dim=1)

    def _last(self, steps: Tensor, lengths: Tensor) -> Tensor:
        """Take each direction's final state: forward at the last valid step, backward at the first."""
        H = self.hidden_size
        index = (lengths - 1)[:, None, None].expand(-1, 1, H)
        forward = steps[:, :, :H].gather(1, index)[:, 0]  # (B, H)
        return torch.cat([forward, steps[:, 0, H:]], dim=1)

    def _attention(self, steps: Tensor, is_valid: Tensor) -> Tensor:
        """Weigh the valid steps by how well they answer one learned query."""
        scores = torch.where(is_valid, self.query(torch.tanh(self.key(steps))), -torch.inf)  # (B, T, 1)
        return (torch.softmax(scores, dim=1) * steps).sum(1)
