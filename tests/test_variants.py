"""Every variant of the model, from training to an answer of Triton."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import recipe
from pipeline.client import Client
from pipeline.export import export
from pipeline.publish import publish
from pipeline.reference import Reference
from pipeline.run_directory import RunDirectory
from pipeline.sequences import Sequences
from pipeline.serve import running
from pipeline.train import train
from pipeline.verify import verify
from tests.conftest import QUICK_FEATURES, QUICK_TEXT

pytestmark = pytest.mark.long

VARIANTS = {
    "one-way": ("model.bidirectional=false",),
    "last": ("model.pooling=last",),
    "mean": ("model.pooling=mean",),
    "attention": ("model.pooling=attention",),
    "max-mean": ("model.pooling=max+mean",),
    "two": ("model.layers=2",),
    "uncalibrated": ("train.calibrate=false",),
    "concatenated": ("model.pooling=max+mean+last",),
    "stacked": ("model.layers=4",),
    "residual": ("model.layers=3", "model.residual=true"),
    "layer-norm": ("model.layers=2", "model.norm=layer"),
    "batch-norm": ("model.layers=2", "model.norm=batch"),
    "convolution": ("model.convolution=3",),
    "gru-one-way": ("model.cell=gru", "model.bidirectional=false", "model.pooling=last"),
    "gru": ("model.cell=gru", "model.layers=2"),
    "dropped": ("model.locked_dropout=true", "model.embedding_dropout=0.1", "model.weight_dropout=0.2"),
    "frozen": ("model.freeze_embedding=true",),
    "all": (
        "model.layers=3",
        "model.residual=true",
        "model.norm=batch",
        "model.pooling=max+attention",
        "model.convolution=5",
    ),
    "pretrained": ("pretrain.texts=train", "train.gradual_unfreezing=true", "train.layer_decay=0.5"),
    "characters": ("tokenizer.level=character", "tokenizer.lowercase=false"),
}
FEATURE_VARIANTS = {
    "instance-norm": ("model.instance_norm=true",),
    "instance-norm-convolution": ("model.instance_norm=true", "model.convolution=3"),
}


def test_at_least_twenty_healthy_models_are_verified() -> None:
    assert len(VARIANTS) + len(FEATURE_VARIANTS) >= 20


def test_every_variant_is_trained_exported_verified_and_served(
    text_data: Path, feature_data: Path, tmp_path: Path
) -> None:
    runs: dict[str, RunDirectory] = {}
    known = [f"{word} {' '.join(['0.25'] * 16)}\n" for word in ("film", "book", "lovely", "awful")]
    (tmp_path / "vectors.txt").write_text("".join(known))
    variants = [(name, text_data, (*QUICK_TEXT, *settings)) for name, settings in VARIANTS.items()]
    variants += [(name, feature_data, (*QUICK_FEATURES, *settings)) for name, settings in FEATURE_VARIANTS.items()]
    variants.append(("vectors", text_data, (*QUICK_TEXT, f"model.vectors={tmp_path / 'vectors.txt'}")))
    for name, data, settings in variants:
        keys = recipe.load(None, (*settings, "train.epochs=1", f"publish.name={name}"))
        runs[name] = train(data, keys, tmp_path / "runs")
        export(runs[name])
        report = verify(runs[name])
        assert report.passed, (name, [check.detail for check in report.checks if not check.passed])
        publish(runs[name], tmp_path / "model_repository")
    with running(tmp_path / "model_repository") as server:
        for name, run in runs.items():
            rows, expected = answers_of(Reference.load(run))
            with Client(server.grpc_url, name) as client:
                given = [list(answer.probabilities.values()) for answer in client.classify(rows)]
            assert np.abs(expected - np.array(given, np.float32)).max() <= 1e-5


def answers_of(reference: Reference) -> tuple[list[Any], np.ndarray]:
    """Return the inputs of the test split and PyTorch's answers."""
    split = reference.dataset().split("test")
    if reference.tokenizer is None:
        return split.frames(), reference.probabilities(Sequences.join(split.frames()))
    return split.texts(), reference.probabilities(reference.tokenizer.encode(split.texts()))
