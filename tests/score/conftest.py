import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.score import stage
from pipeline.score.shard import Scorer
from tests.conftest import BLAME, PRAISE, SUBJECTS


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process do what workers do."""

    def run(job, shards, workers):
        scorer = Scorer(job)
        for shard in shards:
            scorer(shard)
            yield shard

    monkeypatch.setitem(stage._ENGINES, "local", run)


def opinions(count: int, seed: int = 0) -> list[str]:
    """Texts of several lengths; every so often an empty one, or a long one."""
    draw = np.random.default_rng(seed)
    subjects, opinions = draw.choice(SUBJECTS, count), draw.choice(PRAISE + BLAME, count)
    times = draw.choice((0, 1, 1, 2, 40), count)
    return [
        " ".join([f"{subject} {opinion}"] * n) for subject, opinion, n in zip(subjects, opinions, times, strict=True)
    ]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write texts to a file of any format, beside a column that is to be kept."""

    def write(name: str, texts: list[str], row_group: int = 1000) -> Path:
        path = tmp_path / "inputs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            table = pa.table({"id": range(len(texts)), "text": texts})
            pq.write_table(table, path, row_group_size=row_group)
        elif path.suffix == ".jsonl":
            path.write_text("".join(json.dumps({"id": id_, "text": text}) + "\n" for id_, text in enumerate(texts)))
        else:
            with path.open("w", newline="") as file:
                writer = csv.writer(file, delimiter="," if path.suffix == ".csv" else "\t")
                writer.writerows([["id", "text"], *enumerate(texts)])
        return path

    return write
