"""The export stage: a run in, one self-contained ``model.onnx``, its ``signature.json`` and its variants out."""

from pipeline.export.stage import export
from pipeline.export.variants import export_variants, require_kept

__all__ = ["export", "export_variants", "require_kept"]
