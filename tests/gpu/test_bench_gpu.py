import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from pipeline.bench.gpu import measured_peaks
from pipeline.commands import main
from pipeline.run_directory import RunDirectory

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no CUDA device here"),
]


def test_the_gpu_is_measured_in_every_precision_and_leaves_a_dated_record(
    exported_run: RunDirectory, tmp_path: Path
) -> None:
    result = CliRunner().invoke(main, ["bench", "gpu", str(exported_run.path), "--rounds", "2", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    print(result.stdout)  # noqa: T201 - this is the record
    (path,) = tmp_path.glob("*.json")
    record = json.loads(path.read_text())
    assert path.name.startswith(record["date"])
    assert not record["skipped"]
    allowed = {"fp32": 1e-4, "tf32": 5e-3, "fp16": 2e-2}
    engines = ("pytorch", "onnxruntime")
    assert set(record["difference"]) == {f"{engine} {precision}" for engine in engines for precision in allowed}
    for way, difference in record["difference"].items():
        assert difference <= allowed[way.split()[1]], way
    for one in record["measurements"]:
        assert 0 < one["roofline_share"] <= 1.1, f"{one['way']}: faster than the device allows"


def test_tf32_and_fp16_have_higher_peaks_than_fp32() -> None:
    peaks = {precision: measured_peaks("cuda", precision).operations for precision in ("fp32", "tf32", "fp16")}
    assert peaks["fp32"] < peaks["tf32"] < peaks["fp16"]


def test_a_cost_model_is_fitted_on_the_gpu(exported_run: RunDirectory, tmp_path: Path) -> None:
    out = tmp_path / "cost.json"
    words = ["bench", "cost", str(exported_run.path), "--device", "cuda", "--rounds", "2", "--out", str(out)]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    assert "texts/s of a GPU" in result.stdout
    assert json.loads(out.read_text())["cores"] == 1
