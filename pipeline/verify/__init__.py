"""The verify stage: prove that what will be served gives PyTorch's answers, and gives them to every caller alike."""

from pipeline.verify.foreign import ModelReport, verify_model
from pipeline.verify.junit import write_junit
from pipeline.verify.parity_report import Check, ParityReport
from pipeline.verify.stage import verify

__all__ = ["Check", "ModelReport", "ParityReport", "verify", "verify_model", "write_junit"]
