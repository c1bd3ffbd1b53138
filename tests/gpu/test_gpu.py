"""What only a machine with a CUDA device can show: ``python -m pytest -m gpu -s`` runs it and prints the record.

Source of the ragged batches: microsoft/onnxruntime#1400: CUDA's LSTM leaves what lies past a row's length as the memory
was, so that an answer may hold an earlier batch's numbers.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline import recipe
from pipeline.evaluate import evaluate
from pipeline.export import export, export_variants
from pipeline.reference import Reference
from pipeline.run_directory import RunDirectory
from pipeline.runtime import CUDA, open_session
from pipeline.train import Choices, train
from pipeline.verify import ParityReport, cases, checks, verify
from pipeline.verify.engines import OnnxEngine, TorchEngine
from pipeline.verify.named import SESSIONS, tolerance
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
    require_verified(verify(run, engines=("cuda", "cuda-tf32")))


@pytest.mark.parametrize("run_fixture", ["exported_run", "verified_feature_run"])
def test_a_run_trained_on_the_cpu_is_verified_on_cuda_with_tf32_off_and_on(
    run_fixture: str, copy_of, request: pytest.FixtureRequest
) -> None:
    report = verify(copy_of(request.getfixturevalue(run_fixture)), engines=("cuda", "cuda-tf32"))
    require_verified(report)
    placed = {check.engine: check.measured["nodes"] for check in report.engine_checks if check.name == "placement"}
    assert set(placed) == {"cuda", "cuda-tf32"}
    assert min(placed.values()) >= 4, "recurrent layer, pooling, linear layer and softmax"


@pytest.mark.parametrize("run_fixture", ["exported_run", "verified_feature_run"])
def test_ragged_batches_on_cuda_hold_nothing_of_the_batches_before(
    run_fixture: str, request: pytest.FixtureRequest
) -> None:
    run = request.getfixturevalue(run_fixture)
    reference = Reference.load(run)
    dataset = reference.dataset()
    torch_engine, cuda = TorchEngine(reference), OnnxEngine(open_session(run / "model.onnx", CUDA))
    soiling = [cases.longest_row(reference, dataset)] * reference.recipe.publish.max_batch_size
    ragged = [batch for batch in cases.grid(reference, dataset) if not batch.name.endswith("uniform")]

    def soiled() -> Iterator[cases.Batch]:
        for batch in ragged:
            cuda.answer(soiling)  # the arena's memory now holds long rows' numbers
            yield batch

    check = checks.parity("ragged", torch_engine, cuda, soiled(), tolerance("cuda"))
    print(f"{check.engine:<24} {check.name:<19} {check.detail}")  # noqa: T201 - this is the record
    assert check.passed, check.detail


@pytest.mark.skipif(
    torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 0), reason="TF32 came with Ampere"
)
def test_tf32_changes_answers_where_it_is_on_and_only_there(exported_run: RunDirectory) -> None:
    sample = cases.sample(Reference.load(exported_run).dataset(), "text", 64)
    exact, again, coarse = (
        OnnxEngine(open_session(exported_run / "model.onnx", **SESSIONS[name])).answer(sample).probabilities
        for name in ("cuda", "cuda", "cuda-tf32")
    )
    assert np.array_equal(exact, again)
    assert 0 < np.abs(exact - coarse).max() <= tolerance("cuda-tf32").absolute


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
    require_verified(verify(run, engines=("cuda",)))


def require_verified(report: ParityReport) -> None:
    made = (*report.checks, *report.engine_checks)
    for check in made:
        print(f"{check.engine:<24} {check.name:<19} {check.detail}")  # noqa: T201 - this is the record
    assert not report.failures, [check.detail for check in made if not check.passed]
