"""Someone else's model: an ONNX file against whatever it was made from, its inputs drawn from what it declares."""

from pipeline.verify.foreign.stage import ModelReport, verify_model

__all__ = ["ModelReport", "verify_model"]
