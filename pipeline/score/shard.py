"""A shard to its part: there whole, with a record of what it holds, or not there at all. Every engine runs this."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pipeline.errors import DataError, PipelineError
from pipeline.files import sync, write_json
from pipeline.readers.rows import BadRow
from pipeline.score.formats import Columns, Range, Window, Writer, format_of
from pipeline.score.inputs import Input
from pipeline.score.model import Model
from pipeline.score.operator import Answers, Operator

MOST_NAMED = 5  # skipped rows of a shard


@dataclass(frozen=True)
class Job:
    """What is the same for all shards.

    Attributes:
        model: which bytes answer.
        columns: what is read and what is added.
        skips_bad_rows: leave them out, and count them.
        parts: the folder of the parts.
        threads: of one worker.
    """

    model: Model
    columns: Columns
    skips_bad_rows: bool
    parts: Path
    threads: int


@dataclass(frozen=True)
class Shard:
    """A range of a file, and its place among all."""

    number: int
    input: Input
    range: Range

    def part(self, folder: Path) -> Path:
        """Return where its part lies."""
        return folder / f"{self.number:06}{self.input.path.suffix.lower()}"

    def record(self, folder: Path) -> Path:
        """Return where its `Counts` lie; the shard is done when they do."""
        return folder / f"{self.number:06}.json"


@dataclass
class Counts:
    """What was scored.

    Attributes:
        rows: that were scored.
        not_valid: of them, texts that were not UTF-8, and have no label.
        labels: of the others, how many have each.
        skipped: rows that were left out.
        named: the first of these.
    """

    rows: int = 0
    not_valid: int = 0
    labels: dict[str, int] = field(default_factory=dict)
    skipped: int = 0
    named: list[str] = field(default_factory=list)

    def add(self, other: "Counts") -> None:
        """Add what was scored elsewhere."""
        self.rows += other.rows
        self.not_valid += other.not_valid
        self.labels = dict(Counter(self.labels) + Counter(other.labels))
        self.skipped += other.skipped
        self.named = [*self.named, *other.named][:MOST_NAMED]


class Scorer:
    """Scores shards of one job, one after another, with one session.

    Raises:
        CheckFailed: the model's file is not the verified one.
        PipelineError: it does not load.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._operator = Operator(job.model, job.threads)

    def __call__(self, shard: Shard) -> None:
        """Write a shard's part and its counts; to do it twice gives the same files.

        Raises:
            DataError: the input was changed, cannot be read, or has a bad row that may not be skipped.
            PipelineError: the part cannot be written.
        """
        form, counts = format_of(shard.input.path, self._job.columns), Counts()
        with shard.input.opened() as file:
            with whole(shard.part(self._job.parts)) as temporary, form.writer(file, temporary) as write:
                for window in form.windows(file, shard.range):
                    self._skip(window.bad, shard, counts)
                    if window.texts:
                        self._score(window, write, counts)
            if counts.rows + counts.skipped != shard.range.rows:
                raise DataError(f"got {counts.rows + counts.skipped:,} rows where {shard.range.rows:,} were planned.")
        write_json(shard.record(self._job.parts), asdict(counts))

    def _score(self, window: Window, write: Writer, counts: Counts) -> None:
        answers: Answers = self._operator(window.texts)
        write(window, answers)
        labels = Counter(label for label, valid in zip(answers.labels, answers.valid, strict=True) if valid)
        counts.add(Counts(len(window.texts), int((~answers.valid).sum()), labels))

    def _skip(self, bad: list[BadRow], shard: Shard, counts: Counts) -> None:
        for row in bad:
            where = f"{row.unit} {row.number}: {row.reason}"
            if not self._job.skips_bad_rows:
                raise DataError(f"{where}. Mend the row, or use --on-bad-row=skip.")
            counts.add(Counts(skipped=1, named=[f"{shard.input.path}: {where}"]))


@contextmanager
def whole(path: Path, folder: Path | None = None) -> Iterator[Path]:
    """Give a path to write to, in the same folder or another, whose file takes its place when all is written, or goes.

    Raises:
        PipelineError: the disk is full, or the folder cannot be written.
    """
    temporary = (folder or path.parent) / f".{path.name}.{os.getpid()}.tmp"
    try:
        try:
            yield temporary
            sync(temporary)
            temporary.replace(path)
            sync(path.parent)
        except OSError as error:
            reason = error.strerror or str(error).partition("\n")[0]
            raise PipelineError(f"{path}: cannot be written: {reason}. Make room; the same command goes on.") from error
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
