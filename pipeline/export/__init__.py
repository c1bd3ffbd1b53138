"""The export stage: a run in, one self-contained ``model.onnx`` and its ``signature.json`` out."""

from pipeline.export.stage import export

__all__ = ["export"]
