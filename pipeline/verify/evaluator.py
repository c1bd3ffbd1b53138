"""ONNX's own reference evaluator: slow, plain NumPy, and of nobody's kernels. For small cases."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.ops import op_gru, op_lstm
from onnx.utils import Extractor

from pipeline.errors import CheckFailed
from pipeline.reference import Reference
from pipeline.signature import BATCH, SEQ
from pipeline.verify.compare import Answers
from pipeline.verify.engines import Row, joined


class LSTM(op_lstm.LSTM):
    """The specification's LSTM, each row to its length."""

    op_domain = ""

    def _run(self, *inputs: Any, **attributes: Any) -> Any:
        return _by_row(super()._run, *inputs, **attributes)


class GRU(op_gru.GRU):
    """The specification's GRU, each row to its length."""

    op_domain = ""

    def _run(self, *inputs: Any, **attributes: Any) -> Any:
        return _by_row(super()._run, *inputs, **attributes)


class EvaluatorEngine:
    """The exported graph in the reference evaluator; a text's tokens come from the run's own tokenizer graph.

    The evaluator has no ``com.microsoft`` operators, so that what follows them is evaluated: token ids to label.
    """

    def __init__(self, model: onnx.ModelProto, reference: Reference, name: str = "evaluator") -> None:
        self.name = name
        self._tokenizer = reference.tokenizer
        self._outputs = ["probabilities", "label"] if self._tokenizer else ["probabilities", "label", "valid"]
        graph = _past_tokenizer(model, self._outputs) if self._tokenizer else model
        self._evaluator = ReferenceEvaluator(graph, new_ops=[LSTM, GRU])

    def answer(self, rows: Sequence[Row]) -> Answers:
        """Answer in NumPy; minutes for what others answer in a second."""
        sequences, valid = joined(rows, self._tokenizer)
        batch, lengths = sequences.padded(np.arange(len(rows)))
        name = "token_ids" if self._tokenizer else "features"
        given: Any = self._evaluator.run(self._outputs, {name: batch, "lengths": lengths[:, None]})
        labels = [str(label) for label in given[1][:, 0]]
        return Answers(given[0], labels, valid if self._tokenizer else given[2][:, 0])


def _by_row(
    run: Callable[..., Any], X: Any, W: Any, R: Any, B: Any = None, lengths: Any = None, *rest: Any, **attributes: Any
) -> tuple[np.ndarray]:
    """Run a recurrent operator on each row up to its length; the evaluator's own reads on through the padding.

    Shapes:
        X: (T, B, F), lengths: (B,) → Y: (T, D, B, H), 0 past a row's length.
    """
    if lengths is None or attributes.get("layout"):
        raise CheckFailed("got a recurrent node without sequence_lens, or with the batch first; cannot evaluate it")
    rows = []
    for row, length in enumerate(lengths):
        steps = run(X[:length, row : row + 1], W, R, B, None, *rest, **attributes)[0]
        rows.append(np.pad(steps, ((0, len(X) - length), (0, 0), (0, 0), (0, 0))))
    return (np.concatenate(rows, axis=2),)


def _past_tokenizer(model: onnx.ModelProto, outputs: list[str]) -> onnx.ModelProto:
    """Return the part of a text model that turns token ids into these outputs."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    whole.graph.value_info.extend(
        (
            helper.make_tensor_value_info("token_ids", TensorProto.INT64, [BATCH, SEQ]),
            helper.make_tensor_value_info("lengths", TensorProto.INT64, [BATCH, 1]),
        )
    )
    part: onnx.ModelProto = Extractor(whole).extract_model(["token_ids", "lengths"], outputs)
    return part
