"""The study: every trial as a line of ``tune.jsonl``, so that a search that was cut short is gone on with."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import RunError, UsageError
from pipeline.files import write_text
from pipeline.tune.search import Kind, Measure, Result
from pipeline.tune.space import Candidate


@dataclass(frozen=True)
class Trial:
    """One trial: of what kind, of which candidates side by side, and what it measured of each."""

    kind: Kind
    candidates: tuple[Candidate, ...]
    results: tuple[Result, ...]

    def __iter__(self) -> Iterator[tuple[Candidate, Result]]:
        return zip(self.candidates, self.results, strict=True)


Key = tuple[Kind, tuple[Candidate, ...]]


@dataclass
class Study:
    """The trials of one question, in the order in which they were made.

    Attributes:
        path: ``tune.jsonl``; the first line is the question.
        made: the trials in the file, by what was asked.
        told: told of each new one.
        asked: those that were asked for since it was opened, in the order in which they were asked for.
    """

    path: Path
    made: dict[Key, Trial]
    told: Callable[[Trial], None]
    asked: dict[Key, Trial] = field(default_factory=dict)

    @classmethod
    def opened(cls, path: Path, question: dict[str, Any], told: Callable[[Trial], None]) -> "Study":
        """Go on with a study, or begin one.

        Args:
            path: its file.
            question: what would make its trials others: the models, the texts, the bounds, the machine.
            told: told of each trial that is made.

        Raises:
            UsageError: the file is the study of another question.
            RunError: it was edited.
        """
        if not path.is_file():
            write_text(path, json.dumps(question) + "\n")
        whole = path.read_bytes()
        lines = whole[: whole.rfind(b"\n") + 1]  # a killed writer leaves a part of a line
        if lines != whole:
            write_text(path, lines.decode())
        try:
            first, *others = map(json.loads, lines.splitlines())
            asked, made = dict(first), [_trial(record) for record in others]
        except (ValueError, TypeError, KeyError) as error:
            raise RunError(f"{path}: edited ({error!r}). Move it away to begin anew.") from error
        for key in question:
            if asked.get(key) != question[key]:
                raise UsageError(
                    f"{path}: is of another {key}: {asked.get(key)}, now {question[key]}. "
                    "Ask as it was asked, or move it away to begin anew."
                )
        return cls(path, {(trial.kind, trial.candidates): trial for trial in made}, told)

    def measured(self, kind: Kind, candidates: Sequence[Candidate], measure: Measure) -> tuple[Result, ...]:
        """Return a trial's results; one that was not made yet is made, and written down before it is told."""
        key = (kind, tuple(candidates))
        if key not in self.made:
            trial = Trial(*key, tuple(measure(*key)))
            self._append(trial)
            self.made[key] = trial
            self.told(trial)
        self.asked[key] = self.made[key]
        return self.made[key].results

    def _append(self, trial: Trial) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(asdict(trial)) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _trial(record: dict[str, Any]) -> Trial:
    candidates = tuple(Candidate.of(one) for one in record["candidates"])
    return Trial(record["kind"], candidates, tuple(Result(**one) for one in record["results"]))
