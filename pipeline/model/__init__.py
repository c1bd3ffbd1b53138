"""The classifier: its layers, its initial weights, its form on disk."""

from pipeline.model.classifier import LSTMClassifier, Shape
from pipeline.model.weights import load_weights, save_weights

__all__ = ["LSTMClassifier", "Shape", "load_weights", "save_weights"]
