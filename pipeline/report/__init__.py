"""The report stage: a run's records in, one self-contained page out."""

from pipeline.report.stage import write_report

__all__ = ["write_report"]
