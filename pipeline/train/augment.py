"""The training split, varied anew in each epoch."""

from dataclasses import dataclass

import numpy as np

from pipeline.dataset import Split
from pipeline.recipe import AugmentKeys
from pipeline.sequences import Sequences
from pipeline.tokenizer import PADDING_ID, UNKNOWN_ID, Tokenizer
from pipeline.typos import misspell

_MASK_SHARE = 0.15  # of a row's steps, or of the features, that one mask may cover at most


@dataclass(frozen=True)
class Augmentation:
    """What is done to a batch of the training split before it is learned from.

    Attributes:
        keys: the recipe's.
        texts: the split, when words are to be misspelt; misspelt texts go through the tokenizer again.
        tokenizer: the run's; None for features.
        deviation: (F,) standard deviation of each feature; None for text.
        mean: (F,) mean of each feature, which a mask leaves; None for text.
    """

    keys: AugmentKeys
    texts: Split | None = None
    tokenizer: Tokenizer | None = None
    deviation: np.ndarray | None = None
    mean: np.ndarray | None = None

    def batch(
        self, sequences: Sequences, indices: np.ndarray, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return some sequences, padded, with their lengths; see `Sequences.padded`."""
        if self.deviation is not None and self.mean is not None:
            return self._frames(sequences, indices, generator, self.mean, self.deviation)
        if self.keys.typos and self.texts is not None and self.tokenizer is not None:
            misspelt = [misspell(self.texts.text(index), self.keys.typos, generator) for index in indices]
            token_ids, lengths = self.tokenizer.encode(misspelt).padded(np.arange(len(indices)))
        else:
            token_ids, lengths = sequences.padded(indices)
        if self.keys.word_dropout:
            is_dropped = generator.random(token_ids.shape) < self.keys.word_dropout
            token_ids[is_dropped & (token_ids != PADDING_ID)] = UNKNOWN_ID
        return token_ids, lengths

    def _frames(
        self,
        sequences: Sequences,
        indices: np.ndarray,
        generator: np.random.Generator,
        mean: np.ndarray,
        deviation: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        if not (self.keys.frame_noise or self.keys.frame_masks or self.keys.frame_stretch):
            return sequences.padded(indices)
        rows = []
        for index in indices:
            frames = sequences.values[sequences.offsets[index] : sequences.offsets[index + 1]]
            frames = _stretched(frames, self.keys.frame_stretch, generator)
            frames = frames + generator.normal(0, 1, frames.shape) * deviation * self.keys.frame_noise
            for _ in range(self.keys.frame_masks):
                frames[_stretch(len(frames), generator)] = mean
                chosen = _stretch(frames.shape[1], generator)
                frames[:, chosen] = mean[chosen]
            rows.append(frames.astype(np.float32))
        return Sequences.join(rows).padded(np.arange(len(rows)))


def _stretched(frames: np.ndarray, most: float, generator: np.random.Generator) -> np.ndarray:
    """Return frames, (T, F), played faster or slower, with linear interpolation between them."""
    T = len(frames)
    length = max(1, round(T * (1 + generator.uniform(-most, most))))
    if length == T:
        return frames.copy()
    places = np.linspace(0, T - 1, length)
    before = np.floor(places).astype(int)
    share = (places - before)[:, None]
    between: np.ndarray = frames[before] * (1 - share) + frames[np.minimum(before + 1, T - 1)] * share
    return between


def _stretch(size: int, generator: np.random.Generator) -> slice:
    """Draw a stretch of 0 to `_MASK_SHARE` of a size.

    Source: Park et al. 2019, SpecAugment.
    """
    width = int(generator.integers(0, int(size * _MASK_SHARE) + 1))
    start = int(generator.integers(0, size - width + 1))
    return slice(start, start + width)
