"""Many documents: bounded memory, killed twice, each row once.

A million, with a real model, and the figures in a file::

    PIPELINE_SCORE_ROWS=1000000 PIPELINE_SCORE_MODEL=runs/imdb-001 pytest tests/score/test_score_many.py \\
        -o junit_family=xunit1 --junit-xml=figures.xml
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.run_directory import RunDirectory
from tests.score.conftest import opinions

ROWS = int(os.environ.get("PIPELINE_SCORE_ROWS", "100000"))
MOST_BYTES = 1.5 * 2**30  # of all processes together, the model included


def resident(group: int) -> int:
    """The memory that the processes of a session hold now."""
    size = 0
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(entry.name)) == group:
                size += int((entry / "statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
        except (OSError, IndexError):  # it ended meanwhile
            continue
    return size


def written(path: Path) -> None:
    """A file of numbered texts in one row group, as many a writer makes it."""
    texts = np.array(opinions(10_000), dtype=object)
    schema = pa.schema({"id": pa.int64(), "text": pa.string()})
    with pq.ParquetWriter(path, schema) as writer:
        numbers = np.arange(ROWS)
        writer.write_table(pa.table({"id": numbers, "text": texts[numbers % len(texts)]}, schema), row_group_size=ROWS)


@pytest.mark.soak
def test_many_rows_in_bounded_memory_killed_twice_are_each_there_once(
    verified_run: RunDirectory, tmp_path: Path, record_property
) -> None:
    model = os.environ.get("PIPELINE_SCORE_MODEL", verified_run.path)
    source, to = tmp_path / "many.parquet", tmp_path / "to"
    written(source)
    command = [sys.executable, "-m", "pipeline", "score", model, source, "--to", to, "--json"]
    most, kills, last = 0, 0, 0
    while True:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        while process.poll() is None:
            most = max(most, resident(process.pid))
            done = len(list(to.glob(".parts/[0-9]*.json")))
            if kills < 2 and done > last:
                os.killpg(process.pid, signal.SIGKILL)
                kills, last = kills + 1, done
            time.sleep(0.05)  # between two looks at the memory
        output, _ = process.communicate()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
    record = json.loads(output)
    scored = pq.ParquetFile(to / "many.parquet")
    ids = np.concatenate([batch.column("id").to_numpy() for batch in scored.iter_batches(columns=["id"])])
    figures = {"MiB at most": most / 2**20, "rows at last": record["rows_now"], "seconds": record["seconds"]}
    for name, value in figures.items():
        record_property(name, round(value))
    assert kills == 2
    assert (ids == np.arange(ROWS)).all()
    assert record["counts"]["rows"] == ROWS
    assert record["rows_now"] < ROWS
    assert most < MOST_BYTES
