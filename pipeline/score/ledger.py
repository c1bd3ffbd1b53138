"""What was asked, which shards are done, and the scored files out of their parts.

::

    OUTPUT/
        score.json              what is scored, by which model, cut into which shards; the counts in the end
        reviews.parquet         a scored file; it appears whole
        .parts/000007.parquet   a shard's part, until its file is there
        .parts/000007.json      what it holds; written after it

A shard is done when its counts are there, a file when it is there itself, and all when ``score.json`` says so. Each of
these is one rename, so whatever is killed, and whenever, the same command goes on behind the last of them.
"""

import contextlib
import fcntl
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from pipeline.cache import locked
from pipeline.errors import PipelineError, RunError, UsageError
from pipeline.files import read_json, read_record, remove_leftovers, sync, write_json
from pipeline.score.formats import Columns, Range, format_of
from pipeline.score.inputs import Input
from pipeline.score.model import Model
from pipeline.score.shard import Counts, Shard, whole

FILE = "score.json"


@dataclass(frozen=True)
class Question:
    """What decides the answer; to go on with another question is refused.

    Attributes:
        model: which bytes answer.
        inputs: the files.
        columns: what is read and what is added.
        skips_bad_rows: leave them out.
        shard_rows: about how many rows a shard has.
    """

    model: Model
    inputs: tuple[Input, ...]
    columns: Columns
    skips_bad_rows: bool
    shard_rows: int

    def record(self) -> dict[str, Any]:
        """Return it as JSON has it; where files lie does not matter, but which they are."""
        return {
            "format": 1,
            "model": self.model.sha256,
            "column": self.columns.text,
            "prefix": self.columns.prefix,
            "on_bad_row": "skip" if self.skips_bad_rows else "fail",
            "shard_rows": self.shard_rows,
            "inputs": [[file.name, file.size, file.modified_ns] for file in self.inputs],
        }

    def shards(self) -> Iterator[Shard]:
        """Read the inputs, as far as it needs, and cut them.

        Raises:
            DataError: a file cannot be read.
            UsageError: a file has not the columns.
        """
        number = 0
        for source in self.inputs:
            with source.opened() as file:
                for part in format_of(source.path, self.columns).ranges(file, self.shard_rows):
                    yield Shard(number, source, part)
                    number += 1


class Ledger:
    """The output folder, held by `open_ledger`."""

    def __init__(self, folder: Path, question: Question, shards: Sequence[Shard]) -> None:
        self.parts = folder / ".parts"
        self._folder = folder
        self._question = question
        self._shards: dict[Input, list[Shard]] = {source: [] for source in question.inputs}
        for shard in shards:
            self._shards[shard.input].append(shard)

    @property
    def rows(self) -> int:
        """How many rows all files have."""
        return sum(shard.range.rows for shard in chain.from_iterable(self._shards.values()))

    @property
    def finished(self) -> Counts | None:
        """The counts, when all is done.

        Raises:
            RunError: a scored file was removed since; its parts are gone, too.
        """
        counts = read_json(self._folder / FILE).get("counts")
        if counts is None:
            return None
        for source in self._shards:
            if not (self._folder / source.name).exists():
                raise RunError(f"{self._folder / source.name}: was scored, and is gone. Score into another folder.")
        return Counts(**counts)

    def unfinished(self) -> dict[Input, list[Shard]]:
        """Return each file that is not there, and its shards that are not done."""
        return {
            source: [shard for shard in shards if not self._is_done(shard)]
            for source, shards in self._shards.items()
            if not (self._folder / source.name).exists()
        }

    def _is_done(self, shard: Shard) -> bool:
        """Tell whether a shard's part can be joined; one whose file was there already, and was removed, is gone."""
        return shard.record(self.parts).is_file() and shard.part(self.parts).is_file()

    def join(self, source: Input) -> None:
        """Write a file out of its parts, which go.

        Raises:
            PipelineError: the disk is full.
            DataError: the input is not what it was.
        """
        parts = [shard.part(self.parts) for shard in self._shards[source]]
        target = self._folder / source.name
        target.parent.mkdir(parents=True, exist_ok=True)
        with source.opened() as file, whole(target, self.parts) as temporary:
            format_of(source.path, self._question.columns).join(file, parts, temporary)
        for folder in Path(source.name).parents:  # which may be new: they outlive a power cut before the parts go
            sync(self._folder / folder)
        for part in parts:
            part.unlink()

    def finish(self) -> Counts:
        """Write that all is done, and the counts of all shards."""
        counts = Counts()
        for shard in chain.from_iterable(self._shards.values()):
            counts.add(Counts(**read_json(shard.record(self.parts))))
        write_json(self._folder / FILE, {**read_json(self._folder / FILE), "counts": asdict(counts)})
        return counts


@contextlib.contextmanager
def open_ledger(folder: Path, question: Question) -> Iterator[Ledger]:
    """Begin a scoring, or go on with the same one, with the folder to ourselves.

    Raises:
        UsageError: the folder holds another scoring, or files that would be overwritten.
        PipelineError: somebody else is at it, or it cannot be written.
        DataError: an input cannot be read.
    """
    path = folder / FILE
    is_new = not path.is_file()
    shards = _planned(folder, question) if is_new else _gone_on_with(path, question)
    ledger = Ledger(folder, question, shards)
    try:
        with _held(folder, ledger.parts):
            if is_new:
                _begin(path, question, shards)
            remove_leftovers(ledger.parts)
            yield ledger
            if ledger.finished:
                shutil.rmtree(ledger.parts, ignore_errors=True)
    except OSError as error:
        raise PipelineError(f"{error.filename or folder}: cannot be written: {error.strerror or error}.") from error


@contextlib.contextmanager
def _held(folder: Path, parts: Path) -> Iterator[None]:
    """Keep others out; what is raised while we do is none of the lock's."""
    with contextlib.ExitStack() as stack:
        parts.mkdir(parents=True, exist_ok=True)
        try:
            stack.enter_context(locked("score", parts, fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise PipelineError(f"{folder}: another `pipeline score` writes there now.") from error
        yield


def _begin(path: Path, question: Question, shards: Sequence[Shard]) -> None:
    if path.is_file():
        raise PipelineError(f"{path.parent}: another `pipeline score` began there meanwhile.")
    write_json(path, {**question.record(), "shards": _written(shards, question.inputs)})


def _planned(folder: Path, question: Question) -> list[Shard]:
    for source in question.inputs:
        if (folder / source.name).exists():
            raise UsageError(f"{folder / source.name}: exists, and is not of this scoring. Choose another --to.")
    return list(question.shards())


def _gone_on_with(path: Path, question: Question) -> list[Shard]:
    record = read_record(path, {"inputs": list, "shards": list})
    for key, wanted in question.record().items():
        if record.get(key) != wanted:
            raise UsageError(
                f"{path.parent}: begun with {_difference(key, record.get(key), wanted)}. "
                "Give the same command again, or another --to."
            )
    try:
        return [
            Shard(number, question.inputs[file], Range(*numbers))
            for number, (file, *numbers) in enumerate(record["shards"])
        ]
    except (IndexError, TypeError, ValueError) as error:
        raise RunError(f"{path}: cut off or edited. Score into another folder.") from error


def _difference(key: str, before: Any, now: Any) -> str:
    if key != "inputs" or not isinstance(before, list):
        return f"another {key.replace('_', ' ')}: {before!r}, now {now!r}"
    others = sorted({file[0] for file in before + now if file not in before or file not in now})
    return f"other inputs: {', '.join(others[:3])}{', …' if len(others) > 3 else ''} not as it was"


def _written(shards: Sequence[Shard], inputs: Sequence[Input]) -> list[tuple[int, ...]]:
    numbers = {source: number for number, source in enumerate(inputs)}
    return [(numbers[shard.input], *astuple(shard.range)) for shard in shards]
