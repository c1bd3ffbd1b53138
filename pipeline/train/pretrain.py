"""Language modelling with the classifier's own layers, before it learns its classes.

The forward direction of a layer predicts each next word from the words so far, the backward one each word before. Above
the first layer a bidirectional stack has seen both sides, so only its first layer is trained here.

Sources: Dai and Le 2015, Semi-supervised Sequence Learning; sampled softmax: Jean et al. 2015, On Using Very Large
Target Vocabulary for Neural Machine Translation.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.errors import PipelineError
from pipeline.model import LSTMClassifier
from pipeline.model.inputs import TokenEmbedding
from pipeline.recipe import PretrainKeys, Recipe
from pipeline.sequences import Sequences, length_batches
from pipeline.train.precision import autocast, is_bfloat16

_COUNTED = 2**22  # token ids at a time


@dataclass(frozen=True)
class Pretrained:
    """One pass over the unlabelled texts is done.

    Attributes:
        epoch: from 1.
        epochs: how many there will be.
        loss: mean sampled cross-entropy of a word, in nats, over both directions.
        tokens_per_second: valid steps learned from.
    """

    epoch: int
    epochs: int
    loss: float
    tokens_per_second: float


class LanguageModel(nn.Module):
    """A classifier's embedding and lowest layers, and what turns their states into guesses at words.

    Args:
        model: the classifier.
        tied: guess with the vectors that read the words, or with ones of their own.
    """

    def __init__(self, model: LSTMClassifier, *, tied: bool) -> None:
        super().__init__()
        assert isinstance(model.embedding, TokenEmbedding)  # noqa: S101 - the stage refuses frames
        self.model = model
        self.directions = len(model.recurrent_layers[0].directions)
        self.depth = 1 if self.directions == 2 else len(model.layers)
        V, E = model.embedding.weight.shape
        H = model.recurrent_layers[0].hidden_size
        self.projections = nn.ModuleList(nn.Linear(H, E) for _ in range(self.directions))
        self.words = model.embedding if tied else TokenEmbedding(V, E)
        self.words.sparse = model.embedding.sparse = True

    def forward(self, token_ids: Tensor, lengths: Tensor, negatives: Tensor, log_counts: Tensor) -> tuple[Tensor, int]:
        """Return the summed loss of a batch's words and how many there were.

        Shapes:
            token_ids: (B, T), lengths: (B,), negatives: (K,) token ids drawn with replacement, log_counts: (V,) the
            logarithm of how often each word is expected among them.
        """
        steps = self.model.embedding(token_ids)
        states = self.model.states(steps, lengths, self.depth)  # (B, T, D·H)
        is_valid = torch.arange(token_ids.shape[1], device=token_ids.device) < lengths[:, None]
        has_next = is_valid[:, 1:]
        halves = states.chunk(self.directions, dim=2)
        parts = [(halves[0][:, :-1][has_next], token_ids[:, 1:][has_next])]
        if self.directions == 2:
            parts.append((halves[1][:, 1:][has_next], token_ids[:, :-1][has_next]))
        total = torch.zeros((), device=token_ids.device)
        for projection, (state, target) in zip(self.projections, parts, strict=True):
            total = total + self._loss(projection(state), target, negatives, log_counts)
        return total, sum(len(target) for _, target in parts)

    def _loss(self, guesses: Tensor, targets: Tensor, negatives: Tensor, log_counts: Tensor) -> Tensor:
        """Tell each true word from the drawn ones; a drawn one that is the true word does not count."""
        true = (guesses * nn.Embedding.forward(self.words, targets)).sum(1).float() - log_counts[targets]
        others = (guesses @ nn.Embedding.forward(self.words, negatives).T.to(guesses.dtype)).float()
        others = others - log_counts[negatives]
        others = others.masked_fill(targets[:, None] == negatives, -torch.inf)  # (S, K)
        return (torch.logaddexp(true, others.logsumexp(1)) - true).sum()


def pretrain(model: LSTMClassifier, texts: Sequences, recipe: Recipe) -> Iterator[Pretrained]:
    """Train a classifier's embedding and lowest layers on unlabelled texts, in place; yield after each pass.

    Raises:
        PipelineError: the loss is no longer a finite number.
    """
    keys, device = recipe.pretrain, model.head.weight.device
    assert isinstance(model.embedding, TokenEmbedding)  # noqa: S101 - as above
    was_sparse = model.embedding.sparse
    generator = np.random.default_rng((recipe.train.seed, 0))
    torch.manual_seed(recipe.train.seed)
    language = LanguageModel(model, tied=keys.tied).to(device).train()
    drawn, log_counts = _sampling(texts, language.words.num_embeddings, keys)
    optimizers = _optimizers(language, keys)
    is_bf16 = is_bfloat16(recipe.train, device)
    tokens = int(texts.offsets[-1])
    done, total = 0, tokens * keys.epochs
    for epoch in range(1, keys.epochs + 1):
        start, loss, words = time.perf_counter(), 0.0, 0
        for indices in length_batches(texts.lengths, recipe.train.batch_size, generator, recipe.train.batch_tokens):
            token_ids, lengths = (torch.from_numpy(array).to(device) for array in texts.padded(indices))
            negatives = torch.from_numpy(drawn[generator.integers(0, len(drawn), keys.negatives)].astype(np.int64)).to(
                device
            )
            _set_rate(optimizers, keys.learning_rate * _triangle(done / total))
            with autocast(device, is_bfloat16=is_bf16):
                summed, count = language(token_ids, lengths, negatives, log_counts.to(device))
            done += int(lengths.sum())
            if not count:
                continue
            _step(optimizers, summed / count)
            loss, words = loss + summed.item(), words + count
        if not math.isfinite(loss):
            raise PipelineError(
                f"pre-training diverged: loss {loss} in epoch {epoch}. "
                f"Lower pretrain.learning_rate (now {keys.learning_rate:g})."
            )
        yield Pretrained(epoch, keys.epochs, loss / max(words, 1), tokens / (time.perf_counter() - start))
    model.embedding.sparse = was_sparse


def _sampling(texts: Sequences, vocabulary_size: int, keys: PretrainKeys) -> tuple[np.ndarray, Tensor]:
    """Return the words to draw negatives from, as often as they occur, and the log of each one's expected count."""
    counts = np.zeros(vocabulary_size)
    for start in range(0, len(texts.values), _COUNTED):
        counts += np.bincount(texts.values[start : start + _COUNTED], minlength=vocabulary_size)
    expected = np.maximum(counts, 1) / counts.sum() * keys.negatives
    return texts.values, torch.from_numpy(np.log(expected)).float()


def _optimizers(language: LanguageModel, keys: PretrainKeys) -> list[torch.optim.Optimizer]:
    layers = [parameter for layer in language.model.layers[: language.depth] for parameter in layer.parameters()]
    layers += [parameter for norm in language.model.norms[: language.depth] for parameter in norm.parameters()]
    tables = [language.words.weight]
    if isinstance(language.model.embedding, TokenEmbedding) and language.words is not language.model.embedding:
        tables.append(language.model.embedding.weight)
    moving = [weight for weight in tables if weight.requires_grad]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Adam([*layers, *language.projections.parameters()], keys.learning_rate, fused=True)
    ]
    if moving:
        optimizers.append(torch.optim.SparseAdam(moving, keys.learning_rate))
    return optimizers


def _step(optimizers: list[torch.optim.Optimizer], loss: Tensor) -> None:
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    dense = [group["params"] for group in optimizers[0].param_groups]
    nn.utils.clip_grad_norm_([parameter for group in dense for parameter in group], 1.0)
    for optimizer in optimizers:
        optimizer.step()


def _set_rate(optimizers: list[torch.optim.Optimizer], rate: float) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate


def _triangle(progress: float) -> float:
    """Rise over the first tenth, fall to a tenth over the rest.

    Source: slanted triangular rates, Howard and Ruder 2018.
    """
    return progress / 0.1 if progress < 0.1 else 1 - 0.9 * (progress - 0.1) / 0.9
