"""The classifier: embedding or standardised frames → convolution → (bi)LSTM layers → pooling over valid steps → linear.

Legend: B rows in a batch, T steps, F numbers in a step, H units of a layer, D directions, C classes.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.model.inputs import Convolution, FrameStandardisation, InstanceNorm, TokenEmbedding
from pipeline.model.normalisation import make_norm
from pipeline.model.pooling import Pooling
from pipeline.model.recurrent import OnnxRecurrentLayer, RecurrentLayer
from pipeline.recipe import ModelKeys


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
        self.embedding: TokenEmbedding | FrameStandardisation
        if shape.vocabulary_size is not None:
            size = keys.embedding_size
            self.embedding = TokenEmbedding(shape.vocabulary_size, size, keys.embedding_dropout)
        elif shape.feature_size is not None:
            size = shape.feature_size
            self.embedding = FrameStandardisation(size)
        else:
            raise ValueError("a model reads tokens or features: one of the two sizes must be given")
        self.instance_norm = InstanceNorm() if keys.instance_norm and shape.feature_size is not None else None
        self.convolution = Convolution(size, keys.convolution) if keys.convolution else None
        width = keys.hidden_size * (2 if keys.bidirectional else 1)
        self.layers = nn.ModuleList(
            RecurrentLayer(
                size if number == 0 else width,
                keys.hidden_size,
                bidirectional=keys.bidirectional,
                cell=keys.cell,
                weight_dropout=keys.weight_dropout,
            )
            for number in range(keys.layers)
        )
        self.norms = nn.ModuleList(make_norm(keys.norm, width) for _ in self.layers)
        self.is_residual = keys.residual
        self.dropout = keys.dropout
        self.is_dropout_locked = keys.locked_dropout
        self.pool = Pooling(keys.pooling, keys.hidden_size, width)
        self.head = nn.Linear(self.pool.width, shape.classes)
        nn.init.xavier_uniform_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    @property
    def recurrent_layers(self) -> list[RecurrentLayer]:
        """The layers, typed."""
        return [layer for layer in self.layers if isinstance(layer, RecurrentLayer)]

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Return logits; see the class for shapes."""
        return self.forward_steps(self.embedding(inputs), lengths)

    def forward_steps(self, steps: Tensor, lengths: Tensor) -> Tensor:
        """Return the logits, (B, C), of embedded steps, (B, T, F): where adversarial training moves its inputs."""
        pooled = self.pool(self.states(steps, lengths), lengths, _is_valid(steps, lengths))
        return self.head(functional.dropout(pooled, self.dropout, self.training))  # type: ignore[no-any-return]

    def states(self, steps: Tensor, lengths: Tensor, layers: int | None = None) -> Tensor:
        """Return what the first layers (all of them by default) make of embedded steps: (B, T, F) → (B, T, D·H)."""
        is_valid = _is_valid(steps, lengths)
        if self.instance_norm is not None:
            steps = self.instance_norm(steps, lengths, is_valid)
        if self.convolution is not None:
            steps = self.convolution(steps, is_valid)
        for number, (layer, norm) in enumerate(zip(self.layers[:layers], self.norms[:layers], strict=True)):
            outputs = norm(layer(self._drop(steps), lengths), is_valid)
            steps = steps + outputs if self.is_residual and number else outputs
        return steps

    def _drop(self, steps: Tensor) -> Tensor:
        """Drop values in training: each on its own, or the same ones at every step of a row.

        Source, of the locked form: Gal and Ghahramani 2016.
        """
        if not (self.is_dropout_locked and self.training):
            return functional.dropout(steps, self.dropout, self.training)
        return steps * functional.dropout(torch.ones_like(steps[:, :1]), self.dropout)


def with_onnx_layers(model: LSTMClassifier) -> LSTMClassifier:
    """Return a copy in evaluation mode whose layers are `OnnxRecurrentLayer`: the form that is exported."""
    exportable = copy.deepcopy(model).eval()
    exportable.layers = nn.ModuleList(OnnxRecurrentLayer(layer) for layer in model.recurrent_layers)
    return exportable


def _is_valid(steps: Tensor, lengths: Tensor) -> Tensor:
    """Tell which steps are no padding: (B, T, 1) bool."""
    return (torch.arange(steps.shape[1], device=steps.device) < lengths[:, None])[:, :, None]
