"""The training loops that tutorials teach, on the same model and data: what ours is compared with."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import UsageError
from pipeline.model import LSTMClassifier
from pipeline.model.pooling import Pooling
from pipeline.recipe import Recipe
from pipeline.sequences import Sequences
from pipeline.train.batches import Examples

WAYS = ("packed", "padded", "fixed")


class PlainClassifier(nn.Module):
    """Embedding → one `nn.LSTM` → pooling → linear, as `LSTMClassifier` without its options.

    Args:
        way: ``packed``: the LSTM reads packed sequences. ``padded`` and ``fixed``: it reads the padding too, and the
            backward direction before the text: what it then answers is wrong.

    Shapes:
        inputs: (B, T) int64 or (B, T, F) float32, lengths: (B,) → (B, C).
    """

    def __init__(self, recipe: Recipe, vocabulary_size: int | None, size: int, classes: int, way: str) -> None:
        super().__init__()
        keys = recipe.model
        plain = {"residual": False, "norm": "none", "convolution": 0, "cell": "lstm"}
        for name, value in plain.items():
            if getattr(keys, name) != value:
                raise UsageError(f"model.{name}: the plain loops have none; bench with --set model.{name}={value}.")
        self.is_packed = way == "packed"
        self.embedding = nn.Embedding(vocabulary_size, size, padding_idx=0) if vocabulary_size else nn.Identity()
        self.lstm = nn.LSTM(size, keys.hidden_size, keys.layers, batch_first=True, bidirectional=keys.bidirectional)
        self.dropout = nn.Dropout(keys.dropout)
        width = keys.hidden_size * (2 if keys.bidirectional else 1)
        self.pool = Pooling(keys.pooling, keys.hidden_size, width)
        self.head = nn.Linear(self.pool.width, classes)

    def take_weights(self, like: LSTMClassifier) -> None:
        """Copy the weights of the same model in our form."""
        parts = {"embedding": like.embedding, "pool": like.pool, "head": like.head}
        state = {
            f"{part}.{name}": value for part, module in parts.items() for name, value in module.state_dict().items()
        }
        for number, layer in enumerate(like.recurrent_layers):
            for suffix, direction in zip(("", "_reverse"), layer.directions, strict=False):
                for name, value in direction.state_dict().items():
                    state[f"lstm.{name.removesuffix('0')}{number}{suffix}"] = value
        self.load_state_dict(state)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Return logits."""
        steps = self.dropout(self.embedding(inputs))
        T = steps.shape[1]
        if self.is_packed:
            packed = nn.utils.rnn.pack_padded_sequence(steps, lengths, batch_first=True, enforce_sorted=False)
            outputs, _ = nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=T)
        else:
            outputs = self.lstm(steps)[0]
        is_valid = (torch.arange(T) < lengths[:, None])[:, :, None]
        return self.head(self.dropout(self.pool(outputs, lengths, is_valid)))  # type: ignore[no-any-return]


def train_plainly(
    model: PlainClassifier, examples: Examples, recipe: Recipe, width: int | None, seed: int
) -> Iterator[int]:
    """Train in batches of random order, in float32, with AdamW over dense gradients; yield each step's valid tokens.

    Args:
        model: the classifier.
        examples: the training split.
        recipe: batch size, learning rate, clipping.
        width: steps that every batch is padded to; None for its longest row.
        seed: of the order.
    """
    keys, sequences = recipe.train, examples.sequences
    optimizer = torch.optim.AdamW(model.parameters(), keys.learning_rate)
    generator = np.random.default_rng(seed)
    model.train()
    while True:
        order = generator.permutation(len(sequences))
        for start in range(0, len(order), keys.batch_size):
            indices = order[start : start + keys.batch_size]
            inputs, lengths = (torch.from_numpy(array) for array in sequences.padded(indices, width))
            loss = functional.cross_entropy(model(inputs, lengths), torch.from_numpy(examples.labels[indices]))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), keys.clip_norm)
            optimizer.step()
            yield int(lengths.sum())


def longest(sequences: Sequences) -> int:
    """Return the steps of the longest sequence."""
    return int(sequences.lengths.max())
