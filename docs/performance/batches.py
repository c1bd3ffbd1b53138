"""Engines in process at batches of one size: the same texts to each in turn, so that all see the same machine."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from cases import Case
from eager import TorchClassifier
from engines import OpenVinoClassifier
from peers import CORES
from targets import Classifier

from pipeline.runtime import open_session
from pipeline.score.model import find_model
from pipeline.score.operator import Operator

BATCHES = (1, 32)
_TURN_SECONDS = 0.5


class OurClassifier:
    """A verified variant as `pipeline score` runs it: batches cut by length, on all cores at once."""

    def __init__(self, run: Path, variant: str) -> None:
        self._operator = Operator(find_model(run, None if variant == "fp32" else variant))

    def labels(self, texts: Sequence[str]) -> list[str]:
        """Return the label of each text."""
        return self._operator([text.encode() for text in texts]).labels


class OnnxClassifier:
    """A model file in ONNX Runtime, on all cores: each batch as it comes."""

    def __init__(self, model: Path) -> None:
        self._session = open_session(model)

    def labels(self, texts: Sequence[str]) -> list[str]:
        """Return the label of each text."""
        (labels,) = self._session.run(["label"], {"text": np.array([[text] for text in texts], dtype=object)})
        return labels[:, 0].tolist()


def speeds(case: Case, seconds: float) -> list[tuple[int, dict[str, float]]]:
    """Return each size of batch and the texts a second of each engine at it; the slowest gets some seconds."""
    texts = [text.decode() for text in case.texts]
    variants = dict.fromkeys([case.variant, "fp32"])
    engines: dict[str, Classifier] = {f"pipeline score, {one}": OurClassifier(case.run, one) for one in variants}
    engines |= {f"ONNX Runtime, {one}": OnnxClassifier(case.model(one)) for one in variants}
    engines["OpenVINO"] = OpenVinoClassifier(case.run, case.classes)
    for threads in dict.fromkeys((1, CORES)):
        engines[f"PyTorch, {threads} thread{'s' if threads > 1 else ''}"] = TorchClassifier(case.run, threads)
    return [(size, _interleaved(engines, texts, size, seconds)) for size in BATCHES]


def _interleaved(engines: dict[str, Classifier], texts: list[str], size: int, seconds: float) -> dict[str, float]:
    """Give each engine all texts in turn, and again in turns long enough that what the last one left no longer counts.

    Idle threads of the last engine look for work for some milliseconds, and its weights lie in the cache.
    """
    spent, asked = dict.fromkeys(engines, 0.0), dict.fromkeys(engines, 0)
    for engine in engines.values():
        engine.labels(texts[:size])
    while max(spent.values()) < seconds:
        for name, engine in engines.items():
            start = time.perf_counter()
            while (turn := time.perf_counter() - start) < _TURN_SECONDS:
                for first in range(0, len(texts), size):
                    engine.labels(texts[first : first + size])
                asked[name] += len(texts)
            spent[name] += turn
    return {name: asked[name] / spent[name] for name in engines}
