"""What only a machine with a CUDA device can show. Run alone: ``python -m pytest -m gpu``; records lie beside."""

from pathlib import Path

import pytest
import torch

from pipeline import recipe
from pipeline.evaluate import evaluate
from pipeline.export import export, export_variants
from pipeline.run_directory import RunDirectory
from pipeline.train import Choices, train
from pipeline.verify import verify
from tests.conftest import QUICK_FEATURES, QUICK_TEXT

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no CUDA device here"),
]


@pytest.mark.parametrize("kind", ["text", "feature"])
def test_a_run_trained_on_cuda_is_verified_on_cuda_and_on_the_cpu(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    data = request.getfixturevalue(f"{kind}_data")
    settings = {"text": QUICK_TEXT, "feature": QUICK_FEATURES}[kind]
    run = train(data, recipe.load(None, settings), tmp_path, Choices(device="cuda"))
    figures = evaluate(run)["test"]
    assert figures["accuracy"] > figures["majority_baseline"] + 0.2
    export(run)
    report = verify(run, providers=("cpu", "cuda"))
    assert report.passed, [check.detail for check in report.checks if not check.passed]
    for check in report.checks:
        print(f"{check.engine:<24} {check.name:<19} {check.detail}")  # noqa: T201 - this is the record


def test_cuda_and_cpu_training_start_from_the_same_weights(text_data: Path, tmp_path: Path) -> None:
    settings = (*QUICK_TEXT, "train.epochs=1", "model.dropout=0", "train.learning_rate=1e-9")
    runs: list[RunDirectory] = [
        train(text_data, recipe.load(None, settings), tmp_path, Choices(device=device)) for device in ("cpu", "cuda")
    ]
    losses = [evaluate(run)["test"]["loss"] for run in runs]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def test_half_precision_is_judged_on_the_gpu(text_data: Path, tmp_path: Path) -> None:
    run = train(text_data, recipe.load(None, QUICK_TEXT), tmp_path, Choices(device="cuda"))
    export(run)
    (record,) = export_variants(run, ["fp16"])["variants"]
    print(record)  # noqa: T201 - this is the record
    assert "figures" in record, record["reasons"]
    assert verify(run, providers=("cpu", "cuda")).passed
