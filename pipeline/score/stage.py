"""Score files: plan or go on, let an engine score the shards, put the files together."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Literal

from pipeline.score import local, on_ray
from pipeline.score.formats import Columns
from pipeline.score.inputs import Input, find_inputs
from pipeline.score.ledger import Ledger, Question, open_ledger
from pipeline.score.model import find_model
from pipeline.score.shard import Counts, Job, Shard

SHARD_ROWS = 16_384

Engine = Literal["local", "ray"]
Run = Callable[[Job, Sequence[Shard]], Iterator[Shard]]
_ENGINES = {"local": local.run, "ray": on_ray.run}


@dataclass(frozen=True)
class Record:
    """What a scoring came to.

    Attributes:
        counts: of all rows, scored now or before.
        rows_now: of them, scored by this call.
        seconds: that this call took.
    """

    counts: Counts
    rows_now: int
    seconds: float


def score(
    model: Path,
    inputs: Sequence[Path],
    to: Path,
    *,
    column: str = "text",
    prefix: str = "",
    variant: str | None = None,
    skips_bad_rows: bool = False,
    shard_rows: int = SHARD_ROWS,
    workers: int = 0,
    engine: Engine = "local",
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Record:
    """Write copies of files in which every row has its prediction; go on where an earlier call was cut short.

    Rows and columns stay as they are and in their order. Added are ``label``, ``probability``, ``probabilities`` and
    ``valid``; for a text that is not UTF-8, ``valid`` is false and the others null (empty in CSV).

    Args:
        model: a verified run, a published model or one of its versions.
        inputs: Parquet, CSV, TSV or JSON-lines files, or folders of them.
        to: the output folder; a file's copy has its name there.
        column: of the texts.
        prefix: what the names of the added columns begin with.
        variant: of a run: ``int8`` or another that was verified.
        skips_bad_rows: leave rows out that cannot be read, and count them.
        shard_rows: about how many rows are done again when one is cut short.
        workers: processes, each with a session of its own; 0 for one for each core.
        engine: where they run.
        progress: called with how many rows of how many are done.

    Raises:
        CheckFailed: the model is not the verified one.
        RunError: the run was never verified.
        UsageError: an input or a column is not there, a name is taken, or the folder holds another scoring.
        DataError: an input cannot be read, was changed, or has a bad row.
        PipelineError: nothing can be written, or a worker died; what was done stays done.
    """
    start = time.monotonic()
    found = find_model(model, variant)
    columns = Columns(column, prefix, found.classes)
    question = Question(found, tuple(find_inputs(inputs, to)), columns, skips_bad_rows, shard_rows)
    cores = len(os.sched_getaffinity(0))
    workers = workers or cores
    with open_ledger(to, question) as ledger:
        if counts := ledger.finished:
            return Record(counts, 0, time.monotonic() - start)
        unfinished = ledger.unfinished()
        busy = max(1, min(workers, sum(map(len, unfinished.values()))))  # where there are few shards, with more threads
        job = Job(found, columns, skips_bad_rows, ledger.parts.resolve(), max(1, cores // busy))
        rows = _score(job, ledger, unfinished, partial(_ENGINES[engine], workers=busy), progress)
        return Record(ledger.finish(), rows, time.monotonic() - start)


def _score(
    job: Job, ledger: Ledger, unfinished: dict[Input, list[Shard]], run: Run, progress: Callable[[int, int], None]
) -> int:
    """Do what is not done, and return how many rows that was."""
    todo = list(chain.from_iterable(unfinished.values()))
    rows = ledger.rows
    before = rows - sum(shard.range.rows for shard in todo)
    left = {source: len(shards) for source, shards in unfinished.items()}
    done = before
    progress(done, rows)
    for source in [source for source, count in left.items() if not count]:
        ledger.join(source)
    for shard in run(job, todo) if todo else ():
        done += shard.range.rows
        progress(done, rows)
        left[shard.input] -= 1
        if not left[shard.input]:
            ledger.join(shard.input)
    return done - before
