"""The train stage: a recipe and data in, a run directory out."""

from pipeline.train.loop import Epoch, Step
from pipeline.train.pretrain import Pretrained
from pipeline.train.stage import Choices, resume, train

__all__ = ["Choices", "Epoch", "Pretrained", "Step", "resume", "train"]
