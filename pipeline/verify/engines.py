"""The engines that are compared: PyTorch, ONNX Runtime, a live endpoint. Each answers one batch of rows."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort

from pipeline.client import Client
from pipeline.client.over_http import HttpClient
from pipeline.errors import PipelineError
from pipeline.reference import Reference
from pipeline.runtime import first_line
from pipeline.sequences import Sequences
from pipeline.tokenizer import Tokenizer
from pipeline.verify.compare import Answers

Row = Any
"""One input: text as str or raw bytes, or (T, F) float32 frames."""


class Engine(Protocol):
    """Something that answers one batch."""

    name: str

    def answer(self, rows: Sequence[Row]) -> Answers:
        """Answer N > 0 rows, as one batch where the engine lets us say so."""


class TorchEngine:
    """The trained run itself. A text is UTF-8 up to the first NUL; other bytes read as none."""

    def __init__(self, reference: Reference, name: str = "pytorch") -> None:
        self.name = name
        self._reference = reference
        self._classes = reference.signature.classes

    def answer(self, rows: Sequence[Row]) -> Answers:
        """Answer in PyTorch."""
        sequences, valid = joined(rows, self._reference.tokenizer)
        probabilities = self._reference.probabilities(sequences)
        return Answers(probabilities, [self._classes[number] for number in probabilities.argmax(1)], valid)


class OnnxEngine:
    """The exported model in ONNX Runtime."""

    def __init__(self, session: ort.InferenceSession, name: str = "") -> None:
        self.name = name or session.get_providers()[0]
        self._session = session
        self._is_text = session.get_inputs()[0].name == "text"

    def answer(self, rows: Sequence[Row]) -> Answers:
        """Answer in one run.

        Raises:
            PipelineError: ONNX Runtime could not.
        """
        try:
            probabilities, labels, valid = self._session.run(["probabilities", "label", "valid"], self._feed(rows))
            return Answers(probabilities, labels[:, 0].tolist(), valid[:, 0])
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            raise PipelineError(f"{self.name}: cannot answer a batch of {len(rows)}: {first_line(error)}") from error

    def _feed(self, rows: Sequence[Row]) -> dict[str, np.ndarray]:
        if self._is_text:
            raw = [row if isinstance(row, bytes) else row.encode() for row in rows]
            # ONNX Runtime reads fixed-width bytes up to a NUL: one more column ends the longest row too
            return {"text": np.array(raw, dtype=f"S{max(map(len, raw)) + 1}")[:, None]}
        features, lengths = Sequences.join(rows).padded(np.arange(len(rows)))
        return {"features": features, "lengths": lengths[:, None]}


class EndpointEngine:
    """A model behind Triton, asked by the client that users have, or by its twin that speaks HTTP."""

    def __init__(self, client: Client | HttpClient, name: str) -> None:
        self.name = name
        self.client = client
        self._classes = client.contract().classes

    def answer(self, rows: Sequence[Row]) -> Answers:
        """Answer through the server; the client cuts and pads."""
        predictions = self.client.classify(rows)
        probabilities = [[prediction.probabilities[name] for name in self._classes] for prediction in predictions]
        valid = np.array([prediction.valid for prediction in predictions])
        labels = [prediction.label for prediction in predictions]
        return Answers(np.array(probabilities, np.float32), labels, valid)


def joined(rows: Sequence[Row], tokenizer: Tokenizer | None) -> tuple[Sequences, np.ndarray]:
    """Return N rows as sequences, and which of them are valid, (N,) bool."""
    if tokenizer is None:
        return Sequences.join(rows), np.array([np.isfinite(row).all() for row in rows])
    texts = [_text(row) for row in rows]
    return tokenizer.encode([text or "" for text in texts]), np.array([text is not None for text in texts])


def _text(row: str | bytes) -> str | None:
    raw = row if isinstance(row, bytes) else row.encode()
    try:
        return raw.partition(b"\0")[0].decode()
    except UnicodeDecodeError:
        return None
