"""Ray Data scores the same shards with the same operator."""

import os
import subprocess
import sys
from pathlib import Path

from pipeline.run_directory import RunDirectory
from pipeline.score import score
from tests.score.conftest import opinions


def test_ray_writes_what_one_process_writes(verified_run: RunDirectory, write, tmp_path: Path, here: None) -> None:
    paths = [write(name, opinions(100)) for name in ("a.parquet", "b.jsonl")]
    score(verified_run.path, paths, tmp_path / "here", shard_rows=40)
    command = [sys.executable, "-m", "pipeline", "score", verified_run.path, *paths, "--to", tmp_path / "ray"]
    words = ["--shard-rows", "40", "--engine", "ray", "--workers", "2"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run([*command, *words], capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'ray'}\n"), done.stderr
    for name in ("a.parquet", "b.jsonl", "score.json"):
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
