"""The classifier as an ONNX graph: token ids or features in, probabilities out."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import onnx
import torch
from torch import Tensor, nn

from pipeline.model import LSTMClassifier
from pipeline.model.classifier import with_onnx_layers
from pipeline.signature import BATCH, SEQ
from pipeline.tokenizer import OPSET


class _Exportable(nn.Module):
    """The classifier with ONNX's own LSTM layers, taking any length and giving probabilities.

    A length outside 1…T is brought inside it: ONNX Runtime would fail the whole batch, other callers' rows included.
    """

    def __init__(self, model: LSTMClassifier) -> None:
        super().__init__()
        self.model = with_onnx_layers(model)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """(B, T) or (B, T, F), lengths (B, 1) → probabilities (B, C)."""
        valid = lengths.squeeze(1).clamp(min=1).minimum(torch.tensor(inputs.shape[1]))
        return torch.softmax(self.model(inputs, valid), dim=1)


def classifier_graph(model: LSTMClassifier, input_name: str) -> onnx.ModelProto:
    """Export the classifier with dynamic axes ``batch`` and ``seq``.

    Args:
        model: a trained classifier.
        input_name: ``token_ids`` or ``features``.
    """
    T = 3  # traced with more than one row and step: PyTorch takes an axis of size 1 for a constant
    if input_name == "token_ids":
        inputs = torch.ones(2, T, dtype=torch.int64)
    else:
        inputs = torch.zeros(2, T, model.lstm_layers[0].input_size)
    lengths = torch.tensor([[T], [T - 1]])
    with _quiet():
        program = torch.onnx.export(
            _Exportable(model),
            (inputs, lengths),
            input_names=[input_name, "lengths"],
            output_names=["probabilities"],
            dynamic_shapes=({0: BATCH, 1: SEQ}, {0: BATCH}),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # noqa: S101 - dynamo=True always gives a program
    proto: onnx.ModelProto = program.model_proto
    return proto


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's notes about packages we do not use and names it shares; errors still come through."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
