"""A split's rows as sequences: texts through the tokenizer graph, frames as they are."""

from pipeline.dataset import Split
from pipeline.sequences import Sequences
from pipeline.tokenizer import Tokenizer


def encode(split: Split, tokenizer: Tokenizer | None) -> Sequences:
    """Return a split's sequences; a feature split has no tokenizer."""
    if tokenizer is None:
        return Sequences.join(split.frames())
    return tokenizer.encode(split.texts())
