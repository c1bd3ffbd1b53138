"""The classifier as an ONNX graph: token ids or features in, probabilities out."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.model import LSTMClassifier
from pipeline.model.classifier import with_onnx_layers
from pipeline.signature import BATCH, SEQ
from pipeline.tokenizer import OPSET


class _TokenClassifier(nn.Module):
    """The classifier with ONNX's own LSTM layers, giving probabilities. The tokenizer's lengths are always right."""

    def __init__(self, model: LSTMClassifier) -> None:
        super().__init__()
        self.model = with_onnx_layers(model)

    def forward(self, token_ids: Tensor, lengths: Tensor) -> Tensor:
        """(B, T), lengths (B, 1) → probabilities (B, C)."""
        return torch.softmax(self.model(token_ids, lengths.squeeze(1)), dim=1)


class _FeatureClassifier(nn.Module):
    """The same for frames, whatever a caller sends: nothing may fail the batch, which holds other callers' rows.

    A length outside 1…T is brought inside it; a batch without frames gets one of zeros; a row whose frames are not all
    finite numbers is answered, and is not valid.
    """

    def __init__(self, model: LSTMClassifier) -> None:
        super().__init__()
        self.model = with_onnx_layers(model)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, F), lengths (B, 1) → probabilities (B, C), valid (B, 1)."""
        T = features.shape[1]
        within = lengths.minimum(torch.tensor(T)).clamp(min=1)  # (B, 1)
        padded = functional.pad(features, (0, 0, 0, 1))  # (B, T + 1, F)
        is_frame = torch.arange(padded.shape[1]) < within  # (B, T + 1)
        is_good = padded.isfinite().all(2) | ~is_frame  # (B, T + 1)
        probabilities = torch.softmax(self.model(padded, within.squeeze(1)), dim=1)
        return probabilities, is_good.all(1, keepdim=True)


def classifier_graph(model: LSTMClassifier, input_name: str) -> onnx.ModelProto:
    """Export the classifier with dynamic axes ``batch`` and ``seq``.

    Args:
        model: a trained classifier.
        input_name: ``token_ids``, which gives ``probabilities``, or ``features``, which gives ``valid`` too.
    """
    T = 3  # traced with more than one row and step: PyTorch takes an axis of size 1 for a constant
    if input_name == "token_ids":
        exportable: nn.Module = _TokenClassifier(model)
        inputs, outputs = torch.ones(2, T, dtype=torch.int64), ["probabilities"]
    else:
        exportable = _FeatureClassifier(model)
        inputs, outputs = torch.zeros(2, T, model.recurrent_layers[0].input_size), ["probabilities", "valid"]
    lengths = torch.tensor([[T], [T - 1]])
    with _quiet():
        program = torch.onnx.export(
            exportable,
            (inputs, lengths),
            input_names=[input_name, "lengths"],
            output_names=outputs,
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
