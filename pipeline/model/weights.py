"""Weights on disk: safetensors, so that nothing is ever unpickled."""

from pathlib import Path

import safetensors
import safetensors.torch
import torch

from pipeline.errors import RunError
from pipeline.files import write_bytes
from pipeline.model.classifier import LSTMClassifier


def save_weights(weights: dict[str, torch.Tensor], path: Path) -> None:
    """Write a model's state as safetensors, atomically."""
    write_bytes(path, safetensors.torch.save({name: value.contiguous() for name, value in weights.items()}))


def load_weights(model: LSTMClassifier, path: Path) -> None:
    """Read weights into a model.

    Raises:
        RunError: the file is damaged, or belongs to a model of another shape.
    """
    try:
        model.load_state_dict(safetensors.torch.load_file(path))
    except safetensors.SafetensorError as error:
        raise RunError(f"{path}: not a whole safetensors file ({error}). Train again.") from error
    except RuntimeError as error:
        raise RunError(
            f"{path}: belongs to another model than {path.parent}/recipe.toml describes. Train again."
        ) from error
