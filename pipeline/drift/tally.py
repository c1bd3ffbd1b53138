"""Requests to counts, a block at a time: what is kept does not grow with their number."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.drift.distance import Ratio, Scale
from pipeline.drift.requests import Request
from pipeline.tokenizer import UNKNOWN_ID, Tokenizer

TOKENS, SIZE, CONFIDENCE, LABEL = "tokens", "size", "confidence", "label"


@dataclass(frozen=True)
class Block:
    """N requests in columns; those of an invalid row hold zeros.

    Attributes:
        times: (N,) float64 seconds since 1970; NaN where unknown.
        is_valid: (N,) bool.
        has_text: (N,) bool.
        columns: (N,) each: `tokens` of the text, `size`, `confidence` as float32 and `label` as the class's number.
        unknown: (N,) int64, how many of the tokens are not in the vocabulary.
    """

    times: np.ndarray
    is_valid: np.ndarray
    has_text: np.ndarray
    columns: dict[str, np.ndarray]
    unknown: np.ndarray

    @classmethod
    def of(cls, requests: Sequence[Request], tokenizer: Tokenizer | None) -> "Block":
        """Lay requests in columns, and their texts in tokens."""
        has_text = np.array([request.is_valid and request.text is not None for request in requests], bool)
        tokens, unknown = np.zeros((2, len(requests)), np.int64)
        if tokenizer and has_text.any():
            texts = [request.text for request in requests if request.is_valid and request.text is not None]
            tokens[has_text], unknown[has_text] = count_tokens(texts, tokenizer)
        return cls(
            np.array([np.nan if request.time is None else request.time for request in requests]),
            np.array([request.is_valid for request in requests], bool),
            has_text,
            {
                TOKENS: tokens,
                SIZE: np.array([request.size for request in requests]),
                CONFIDENCE: np.array([request.confidence or 0 for request in requests], np.float32),
                LABEL: np.array([request.label or 0 for request in requests], np.int64),
            },
            unknown,
        )


def count_tokens(texts: Sequence[str], tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """Return how many tokens the model reads of each text, (N,), and how many of them are not in the vocabulary."""
    sequences = tokenizer.encode(texts)
    return sequences.lengths, np.add.reduceat((sequences.values == UNKNOWN_ID).astype(np.int64), sequences.offsets[:-1])


class Tally:
    """What was counted of some requests.

    Attributes:
        scales: of each column, the reference's.
        rows: requests.
        invalid: those of invalid rows, of which nothing else is counted.
        counts: of each column, how many values lie in each place of its scale.
        sums: of each column.
        unknown: tokens that are not in the vocabulary among all, of the texts that are there.
        first: the earliest time, in seconds since 1970; infinite if none is known.
        last: the latest; minus infinite if none is known.
    """

    def __init__(self, scales: dict[str, Scale]) -> None:
        self.scales = scales
        self.rows = self.invalid = 0
        self.unknown = Ratio()
        self.counts = {name: np.zeros(len(scale.counts), np.int64) for name, scale in scales.items()}
        self.sums = dict.fromkeys(scales, 0.0)
        self.first, self.last = np.inf, -np.inf

    @property
    def valid(self) -> int:
        """Requests of valid rows."""
        return self.rows - self.invalid

    def add(self, block: Block, is_chosen: np.ndarray) -> None:
        """Count the chosen requests of a block, (N,) bool."""
        is_valid, has_text = is_chosen & block.is_valid, is_chosen & block.has_text
        self.rows += int(is_chosen.sum())
        self.invalid += int((is_chosen & ~block.is_valid).sum())
        self.unknown += Ratio.of(block.unknown[has_text], block.columns[TOKENS][has_text])
        for name, scale in self.scales.items():
            values = block.columns[name][has_text if name == TOKENS else is_valid]
            self.counts[name] += scale.count(values)
            self.sums[name] += float(values.sum(dtype=np.float64))
        times = block.times[is_chosen]
        self.first = float(np.fmin.reduce(times, initial=self.first))
        self.last = float(np.fmax.reduce(times, initial=self.last))
