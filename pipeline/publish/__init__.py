"""The publish stage: a verified run in, a new version in the model repository out."""

from pipeline.publish.stage import publish

__all__ = ["publish"]
