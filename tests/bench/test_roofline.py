import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from pipeline.bench.gpu import _measured, bench_gpu, measured_peaks, record_name
from pipeline.bench.roofline import Peaks, bound, work
from pipeline.capacity import Network
from pipeline.commands import main
from pipeline.commands.bench.gpu import gpu_table
from pipeline.run_directory import RunDirectory

NETWORK = Network(layers=((3, 5), (10, 5)), directions=2, gates=4, vocabulary=7, file_bytes=11)
WEIGHTS = 2 * 4 * 5 * (3 + 5) + 2 * 4 * 5 * (10 + 5)
RECURRENT = 2 * 2 * 4 * 5 * 5


@pytest.mark.parametrize("number_bytes", [2, 4])
def test_the_work_of_the_layers_is_counted_by_hand(number_bytes: int) -> None:
    call = work(NETWORK, rows=6, tokens=7, number_bytes=number_bytes)
    moved = 3 + 10 + 10 + 10  # in and out of both layers
    assert call.operations == 6 * 7 * 2 * WEIGHTS
    assert call.bytes == number_bytes * (WEIGHTS + 6 * 7 * moved)
    assert call.streamed_bytes == call.bytes + number_bytes * 6 * RECURRENT
    assert call.step_operations == call.operations / 7
    assert call.step_bytes == number_bytes * (RECURRENT + 6 * moved)


def test_arithmetic_or_memory_bounds_a_call() -> None:
    call = work(NETWORK, rows=6, tokens=7, number_bytes=4)
    slow_memory, slow_arithmetic = Peaks(1e12, 1e3), Peaks(1e3, 1e12)
    by_memory, by_arithmetic = bound(call, slow_memory), bound(call, slow_arithmetic)
    assert (by_memory.by, by_memory.seconds) == ("memory", call.bytes / 1e3)
    assert by_memory.streamed_seconds == call.streamed_bytes / 1e3
    assert (by_arithmetic.by, by_arithmetic.seconds) == ("arithmetic", call.operations / 1e3)
    assert by_arithmetic.streamed_seconds == by_arithmetic.seconds


def test_peaks_are_measured_on_the_device() -> None:
    peaks = measured_peaks("cpu", "fp32")
    assert 1e7 < peaks.operations < 1e14
    assert 1e7 < peaks.bytes < 1e13


@pytest.mark.parametrize("run_fixture", ["exported_run", "verified_feature_run"])
def test_the_whole_way_goes_on_the_cpu_and_its_record_is_coherent(
    run_fixture: str, request: pytest.FixtureRequest
) -> None:
    run: RunDirectory = request.getfixturevalue(run_fixture)
    record = bench_gpu(run, device="cpu", batches=(1, 4), lengths=(3, 8, 40), rounds=1)
    json.dumps(record, allow_nan=False)
    lengths = (3, 8) if run_fixture == "exported_run" else (3, 8, 40)
    ways = [(one["way"], one["rows"], one["tokens"]) for one in record["measurements"]]
    assert ways == [(way, B, T) for T in lengths for B in (1, 4) for way in ("pytorch fp32", "onnxruntime fp32")]
    peaks = Peaks(**record["peaks"]["fp32"])
    for one in record["measurements"]:
        assert one["texts_per_second"] == pytest.approx(one["rows"] / one["seconds"])
        assert one["tokens_per_second"] == pytest.approx(one["tokens"] * one["texts_per_second"])
        least = max(one["work"]["operations"] / peaks.operations, one["work"]["bytes"] / peaks.bytes)
        assert one["roofline"]["seconds"] == pytest.approx(least)
        assert one["roofline_share"] == pytest.approx(least / one["seconds"])
    assert record["difference"]["pytorch fp32"] == 0
    assert record["difference"]["onnxruntime fp32"] < 1e-5, "both were asked the same"
    table = gpu_table(record)
    assert len(re.findall(r"^(?:pytorch|onnxruntime) fp32 +\d+ +\d+ ", table, re.MULTILINE)) == len(ways)
    assert re.fullmatch(rf"\d{{4}}-\d\d-\d\d-[a-z0-9-]+-{run.path.name}\.json", record_name(record))


def test_an_answer_that_is_no_number_is_not_called_exact() -> None:
    ways = {"right": lambda *_: np.float32([[0.5]]), "broken": lambda *_: np.float32([[np.nan]])}
    _, difference = _measured(ways, {(1, 1): ({}, {})}, rounds=1, progress=lambda _: None)
    assert difference["right"] == 0
    assert math.isnan(difference["broken"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_the_command_says_so_and_writes_nothing(exported_run: RunDirectory, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["bench", "gpu", str(exported_run.path), "--out", str(tmp_path / "records")])
    assert result.exit_code == 1
    assert re.search(
        r"^pipeline: bench gpu: PyTorch .* sees no CUDA device\. Run it on a machine with a GPU", result.stderr
    )
    assert not (tmp_path / "records").exists()
