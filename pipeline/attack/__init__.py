"""The attack stage: how much a run's answers suffer from the worst small changes of its inputs."""

from pipeline.attack.stage import attack

__all__ = ["attack"]
