"""How fast `pipeline score` is, files, processes and all, beside the bare inference of the same rows."""

import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.errors import DataError, UsageError
from pipeline.score import score
from pipeline.score.formats import Columns, format_of
from pipeline.score.inputs import find_inputs
from pipeline.score.model import find_model
from pipeline.score.operator import Operator

PREFIX = "scored_"


def bench_scoring(
    model: Path,
    source: Path,
    *,
    column: str = "text",
    variant: str | None = None,
    repeats: int = 3,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Time the scoring of one file and the bare inference of its rows, interleaved.

    Bare is Offline in process: all rows lie in memory, sorted by length as a whole, in batches of the same size, of
    which one session runs as many at once as there are cores. Scoring starts processes, reads, and writes.

    Args:
        model: a verified run or a published version.
        source: a file whose rows fit into memory.
        column: of the texts.
        variant: of a run.
        repeats: of both, in turn, after a warm-up.
        progress: told what is measured.

    Returns:
        ``seconds`` of each way, one figure a repeat; ``ratios``, one a repeat: scoring's speed as a part of the bare
        one's.

    Raises:
        UsageError: the source is a folder.
        DataError: there is no row in it.
        PipelineError: what `score` raises.
    """
    if source.is_dir():
        raise UsageError(f"{source}: a folder; wanted a file.")
    found = find_model(model, variant)
    texts = _texts(source, Columns(column, PREFIX, found.classes))
    if not texts:
        raise DataError(f"{source}: no row in it.")
    bare = partial(Operator(found), texts)
    folder = Path(tempfile.mkdtemp(prefix="pipeline-bench-"))

    def scoring() -> None:
        shutil.rmtree(folder)
        score(model, [source], folder, column=column, prefix=PREFIX, variant=variant)

    seconds: dict[str, list[float]] = {"bare": [], "score": []}
    try:
        for number in range(repeats + 1):
            for name, way in (("bare", bare), ("score", scoring)):
                progress(f"repeat {number} of {repeats}: {name}" if number else f"warm-up: {name}")
                start = time.perf_counter()
                way()
                if number:
                    seconds[name].append(time.perf_counter() - start)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    ratios = [bare_seconds / ours for bare_seconds, ours in zip(seconds["bare"], seconds["score"], strict=True)]
    return {
        "seconds": seconds,
        "ratios": ratios,
        "ratio": statistics.median(ratios),
        "rows": len(texts),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
    }


def _texts(source: Path, columns: Columns) -> list[bytes]:
    (file,) = find_inputs([source], source)
    form = format_of(file.path, columns)
    with file.opened() as content:
        parts = list(form.ranges(content, 2**20))
        return [text for part in parts for window in form.windows(content, part) for text in window.texts]
