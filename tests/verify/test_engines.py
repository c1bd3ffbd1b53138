"""Engines by name: what is not there fails, and never falls back."""

import pytest

from pipeline.run_directory import RunDirectory
from pipeline.verify import verify


def test_a_provider_that_is_not_there_is_a_failure_not_a_fallback(exported_run: RunDirectory, copy_of) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    report = verify(copy_of(exported_run), providers=("cuda",))
    (check,) = (check for check in report.checks if check.name == "load")
    assert not check.passed
    assert "CUDAExecutionProvider" in check.detail
