"""A run's model and untrained ones of other sizes, made by the run's own export: what a cost model is fitted on."""

import dataclasses
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipeline.capacity import Call, Network
from pipeline.export.classifier import classifier_graph
from pipeline.export.fuse import fuse
from pipeline.export.lower import lowered, recurrent_nodes
from pipeline.model import LSTMClassifier, Shape
from pipeline.model.recurrent import GATES
from pipeline.reference import Reference
from pipeline.tokenizer import FIRST_WORD_ID, build

RUN = "run"
FULL = "fp32"
_RANGE = (-1.0, 1.0)  # of what enters an int8 layer that was never trained


@dataclass(frozen=True)
class Size:
    """How an untrained model differs from the run's: shares of its hidden size and of its vocabulary."""

    name: str
    hidden: float
    vocabulary: float


@dataclass(frozen=True)
class Subject:
    """A model to measure, and what to ask it.

    Attributes:
        name: ``run``, or that of its `Size`.
        content: the ONNX file.
        network: what its cost grows with.
        words: its vocabulary, the most frequent first; empty for features.
        separator: what stands between two tokens of a text.
        feature_size: F; 0 for text.
    """

    name: str
    content: bytes
    network: Network
    words: list[str]
    separator: str
    feature_size: int

    def request(self, rows: int, tokens: int) -> tuple[Call, dict[str, np.ndarray]]:
        """Return rows of so many tokens each, and what ONNX Runtime takes for them; always the same ones."""
        generator = np.random.default_rng((rows, tokens))
        if self.feature_size:
            frames = generator.normal(size=(rows, tokens, self.feature_size)).astype(np.float32)
            return Call(rows, tokens), {"features": frames, "lengths": np.full((rows, 1), tokens)}
        drawn = generator.choice(len(self.words), (rows, tokens), p=self._frequencies)
        texts = [self.separator.join(self.words[word] for word in row).encode() for row in drawn]
        # ONNX Runtime reads fixed-width bytes up to a NUL: one more column ends the longest text too
        feed = np.array(texts, dtype=f"S{max(map(len, texts)) + 1}")[:, None]
        return Call(rows, tokens, sum(map(len, texts))), {"text": feed}

    @cached_property
    def _frequencies(self) -> np.ndarray:
        """Words come as often as in texts, by Zipf's law: the frequent ones are short, and lie in the cache."""
        weights: np.ndarray = 1 / np.arange(1, len(self.words) + 1)
        return weights / weights.sum()  # type: ignore[no-any-return]


def run_subject(reference: Reference, variant: str) -> Subject:
    """Return the model that the run exported.

    Raises:
        RunError: it has not been exported, or not in this variant.
    """
    content = reference.run.require("model.onnx" if variant == FULL else f"model.{variant}.onnx").read_bytes()
    return _subject(RUN, content, reference.model, reference, reference.vocabulary)


def grown(reference: Reference, variant: str, size: Size) -> Subject:
    """Return an untrained model of another size, its graph made as `pipeline export` makes it."""
    keys, words = reference.recipe, reference.vocabulary
    words = words[: max(1, round(len(words) * size.vocabulary))]
    hidden_size = max(1, round(keys.model.hidden_size * size.hidden))
    vocabulary_size = FIRST_WORD_ID + len(words) if words else None
    shape = Shape(len(reference.signature.classes), vocabulary_size, reference.signature.feature_size)
    model = LSTMClassifier(dataclasses.replace(keys.model, hidden_size=hidden_size), shape).eval()
    graph = classifier_graph(model, "token_ids" if words else "features")
    whole = fuse(build(words, keys.tokenizer) if words else None, graph, reference.signature)
    if variant != FULL:
        whole = lowered(whole, variant, {node.name: _RANGE for node in recurrent_nodes(whole)})
    return _subject(size.name, whole.SerializeToString(), model, reference, words)


def _subject(name: str, content: bytes, model: LSTMClassifier, reference: Reference, words: list[str]) -> Subject:
    return Subject(
        name=name,
        content=content,
        network=network_of(model, FIRST_WORD_ID + len(words) if words else 0, len(content)),
        words=words,
        separator=" " if reference.recipe.tokenizer.level == "word" else "",
        feature_size=reference.signature.feature_size or 0,
    )


def network_of(model: LSTMClassifier, vocabulary: int, file_bytes: int) -> Network:
    """Return what the cost of a classifier grows with."""
    layers = model.recurrent_layers
    return Network(
        layers=tuple((layer.input_size, layer.hidden_size) for layer in layers),
        directions=len(layers[0].directions),
        gates=GATES[layers[0].cell],
        vocabulary=vocabulary,
        file_bytes=file_bytes,
    )
