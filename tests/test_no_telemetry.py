"""What ONNX Runtime would tell its maker begins with a number for this machine, in the user's cache."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.run_directory import RunDirectory

USE = "import pathlib, sys; from pipeline.runtime import open_session; open_session(pathlib.Path(sys.argv[1]))"


def files_left(home: Path, run: RunDirectory, **settings: str) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache"), **settings}
    subprocess.run([sys.executable, "-c", USE, str(run / "model.onnx")], check=True, env=environment)
    return sorted(path.name for path in home.rglob("*") if path.is_file())


def test_a_session_leaves_no_number_for_this_machine(exported_run: RunDirectory, tmp_path: Path) -> None:
    assert files_left(tmp_path, exported_run) == []


def test_it_would_leave_one_if_it_were_let(exported_run: RunDirectory, tmp_path: Path) -> None:
    if not files_left(tmp_path, exported_run, ORT_DISABLE_TELEMETRY="0"):
        pytest.skip("this ONNX Runtime has no telemetry")
    assert "deviceid" in files_left(tmp_path, exported_run, ORT_DISABLE_TELEMETRY="0")
