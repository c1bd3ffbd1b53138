"""Texts to answers: sorted by length, in batches of like length bounded by rows × bytes, and put back in order."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from pipeline.cut import cut, steps_of
from pipeline.errors import CheckFailed, PipelineError, RunError
from pipeline.runtime import CPU, first_line, open_session
from pipeline.score.model import Model
from pipeline.sequences import length_batches

BATCH_ROWS = 64
BATCH_BYTES = 32 * 2**10  # rows × longest; a longer text is a batch of its own. Larger ones cost memory, not time.


@dataclass(frozen=True)
class Answers:
    """What the model says of N texts.

    Attributes:
        labels: N names; without meaning where not valid, as the probabilities are.
        probabilities: (N, C) float32.
        valid: (N,) bool, whether the text was UTF-8.
    """

    labels: list[str]
    probabilities: np.ndarray
    valid: np.ndarray


class Operator:
    """The model in ONNX Runtime: on a processor several batches at once, each on one thread.

    A step of an LSTM is too little work for two threads to share: they wait for each other.

    Args:
        model: what answers.
        threads: batches at once, on a GPU those of the operators that it lacks; 0 for the number of cores.

    Raises:
        CheckFailed: the file is not the one that was verified.
        PipelineError: the model does not load.
    """

    def __init__(self, model: Model, threads: int = 0) -> None:
        try:
            content = model.path.read_bytes()
        except OSError as error:
            raise RunError(f"{model.path}: cannot be read: {error.strerror}.") from error
        if hashlib.sha256(content).hexdigest() != model.sha256:
            raise CheckFailed(f"{model.path}: changed since it was verified.")
        self._is_cut = model.provider == CPU  # on a GPU a step takes as long for any rows
        self._threads = (threads or len(os.sched_getaffinity(0))) if self._is_cut else 1
        self._session = open_session(content, model.provider, 1 if self._is_cut else threads)
        self._pool = ThreadPoolExecutor(self._threads)
        self._classes = len(model.classes)

    def __call__(self, texts: Sequence[bytes]) -> Answers:
        """Answer texts, in their order.

        Raises:
            PipelineError: ONNX Runtime fails.
        """
        labels = np.empty(len(texts), object)
        probabilities = np.empty((len(texts), self._classes), np.float32)
        valid = np.empty(len(texts), bool)
        found = batches(texts, self._is_cut)
        if len(found) < self._threads:
            found = [part for rows in found for part in np.array_split(rows, self._threads) if len(part)]

        def answer(rows: np.ndarray) -> list[np.ndarray]:
            return self.ask([texts[row] for row in rows])

        answers = self._pool.map(answer, found) if self._threads > 1 and len(found) > 1 else map(answer, found)
        for rows, (label, shares, is_valid) in zip(found, answers, strict=True):
            labels[rows], probabilities[rows], valid[rows] = label[:, 0], shares, is_valid[:, 0]
        return Answers(labels.tolist(), probabilities, valid)

    def ask(self, texts: Sequence[bytes]) -> list[np.ndarray]:
        """Return label (B, 1), probabilities (B, C) and valid (B, 1) of some texts together.

        ONNX Runtime reads fixed-width bytes up to a NUL, where a text ends on every way into the model: one more column
        ends the longest, too.
        """
        width = max(map(len, texts)) + 1
        feed = {"text": np.array(texts, dtype=f"S{width}")[:, None]}
        try:
            answer: list[np.ndarray] = self._session.run(["label", "probabilities", "valid"], feed)
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            raise PipelineError(f"ONNX Runtime fails: {first_line(error)}") from error
        return answer


def batches(texts: Sequence[bytes], is_cut: bool = True) -> list[np.ndarray]:
    """Return the indices of every text once, in batches of similar length, the longest first.

    Args:
        texts: to be answered.
        is_cut: cut batches in which padding would cost more than one more run.
    """
    if not texts:
        return []
    lengths, steps = np.fromiter(map(len, texts), np.int64, len(texts)), steps_of(texts)
    found = length_batches(lengths, BATCH_ROWS, batch_tokens=BATCH_BYTES)
    if not is_cut:
        return found
    ascending = [batch[::-1] for batch in found]
    return [part for batch in ascending for part in reversed(np.split(batch, cut(steps[batch])))]
