"""What happened: the steps as they pass, and ``NAME/rollout.json``, which keeps the last rollout of a model."""

import dataclasses
import datetime
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.files import write_json

RECORD_FILE = "rollout.json"
Figures = dict[str, float]


@dataclass(frozen=True)
class Step:
    """A step that passed.

    Attributes:
        name: what was done.
        seconds: how long it took.
        figures: what was counted or measured on the way.
    """

    name: str
    seconds: float
    figures: Figures


@dataclass(frozen=True)
class RollingBack:
    """A step failed; everything is put back as it was."""

    reason: str


@dataclass
class Record:
    """One rollout, written when it ends.

    Attributes:
        name: the model.
        url: the server.
        version: the version that was to become production.
        before: the version that was production.
        steps: those that passed.
        outcome: ``rolled out``, ``rolled back`` or ``unfinished``.
        reason: why it was not rolled out.
        begun: ISO 8601, in UTC.
    """

    name: str
    url: str
    version: int
    before: int
    steps: list[Step] = field(default_factory=list)
    outcome: str = "unfinished"
    reason: str = ""
    begun: str = field(default_factory=lambda: datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"))

    def passed(self, name: str, work: Callable[[], Figures | None]) -> Step:
        """Do a step's work, and keep the step if it passes."""
        begun = time.monotonic()
        figures = work() or {}
        self.steps.append(Step(name, time.monotonic() - begun, figures))
        return self.steps[-1]

    @property
    def content(self) -> dict[str, Any]:
        """What is written, and printed with ``--json``."""
        return {"format": 1, **dataclasses.asdict(self)}

    def save(self, model: Path) -> None:
        """Write ``rollout.json`` into the model's folder.

        Raises:
            PipelineError: it cannot be written.
        """
        write_json(model / RECORD_FILE, self.content)
