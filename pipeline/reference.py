"""A trained run, ready to answer in PyTorch: what every other engine is compared with."""

import copy
import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch

from pipeline import recipe
from pipeline.dataset import Dataset, dataset_of
from pipeline.errors import RunError
from pipeline.files import sha256_of
from pipeline.model import LSTMClassifier, Shape, load_weights
from pipeline.model.scoring import SCORING_BATCH, logits_of
from pipeline.recipe import Recipe
from pipeline.run_directory import RunDirectory
from pipeline.sequences import Sequences
from pipeline.signature import Interface, Signature, make_signature
from pipeline.tokenizer import FIRST_WORD_ID, Tokenizer, read_vocabulary


@dataclass(frozen=True)
class Reference:
    """A trained run in memory.

    Attributes:
        run: where it came from.
        recipe: the resolved recipe.
        signature: what the model takes and gives; the classes in the order of the logits.
        model: the classifier with its best weights, in evaluation mode.
        tokenizer: None for features.
        vocabulary: the tokens from id 2 on; empty for features.
    """

    run: RunDirectory
    recipe: Recipe
    signature: Signature
    model: LSTMClassifier
    tokenizer: Tokenizer | None
    vocabulary: list[str]

    @classmethod
    def load(cls, run: RunDirectory) -> "Reference":
        """Load a run that `pipeline train` left.

        Raises:
            RunError: training was cut off before it wrote weights, or a file was changed since.
        """
        info = run.info
        for name in ("recipe.toml", "weights.safetensors"):
            run.require(name)
        if not info["hashes"]:
            raise RunError(
                f"{run.path}: training was cut off before it ended. Go on with `pipeline train --resume {run.path}`."
            )
        for name, digest in info["hashes"].items():
            if sha256_of(run.require(name)) != digest:
                raise RunError(f"{run / name}: changed since `pipeline train` wrote it. Restore it, or train again.")
        keys = recipe.load(str(run / "recipe.toml"))
        interface: Interface = info["interface"]
        tokenizer, vocabulary = None, []
        if interface == "text":
            tokenizer = Tokenizer(run.require("tokenizer.onnx"))
            vocabulary = read_vocabulary(onnx.load(run / "tokenizer.onnx"))
        size = FIRST_WORD_ID + len(vocabulary) if tokenizer else None
        model = LSTMClassifier(keys.model, Shape(len(info["classes"]), size, info["feature_size"])).eval()
        load_weights(model, run / "weights.safetensors")
        signature = make_signature(interface, tuple(info["classes"]), info["feature_size"])
        return cls(run, keys, signature, model, tokenizer, vocabulary)

    def in_float64(self) -> "Reference":
        """Return the same run in double precision, whose rounding is nothing beside any engine's."""
        return dataclasses.replace(self, model=copy.deepcopy(self.model).double())

    def dataset(self, path: Path | None = None) -> Dataset:
        """Open the data set the run was trained on; see `dataset_of`."""
        return dataset_of(self.run, path)

    def probabilities(self, sequences: Sequences, batch_size: int = SCORING_BATCH) -> np.ndarray:
        """Return (N, C) probabilities, as precise as the weights, in the order of the sequences."""
        return torch.softmax(logits_of(self.model, sequences, batch_size), 1).numpy()
