"""What a model's aliases named, and when: ``NAME/history.jsonl``, written ahead of each change.

A line is written before what it tells of happens. A crash in between leaves a last line that never came true; whoever
reads the history leaves it out, and the next change writes the file without it.
"""

import dataclasses
import datetime
import getpass
import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.errors import RepositoryError

Alias = Literal["production", "candidate", "retired"]
HISTORY_FILE = "history.jsonl"


@dataclass(frozen=True)
class Change:
    """One change of one alias.

    Attributes:
        when: ISO 8601, in UTC.
        alias: ``production`` or ``candidate``; ``retired`` for a version that was removed.
        before: the version it named; None for none.
        after: the version it names since; None for none.
        reason: in words.
        by: user and host.
        is_rollback: production went back to what it had been.
    """

    when: str
    alias: Alias
    before: int | None
    after: int | None
    reason: str
    by: str
    is_rollback: bool = False

    @classmethod
    def now(
        cls, alias: Alias, before: int | None, after: int | None, reason: str, *, is_rollback: bool = False
    ) -> "Change":
        """Return a change that is about to be made by this process."""
        when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        return cls(when, alias, before, after, reason, f"{_user()}@{socket.gethostname()}", is_rollback)


def read(model: Path) -> list[Change]:
    """Return what is written in a model's folder, oldest first; a model older than the file has none.

    Raises:
        RepositoryError: the file cannot be read, or holds something else.
    """
    path = model / HISTORY_FILE
    try:
        return [Change(**json.loads(line)) for line in path.read_text().splitlines()]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        raise RepositoryError(f"{path}: cut off or edited ({error}). Mend the line, or move the file away.") from error


def dumps(changes: list[Change]) -> str:
    """Write changes as ``history.jsonl``: in ASCII, as a reason may hold any line break, or bytes that are no text."""
    return "".join(json.dumps(dataclasses.asdict(change)) + "\n" for change in changes)


def came_true(changes: list[Change], aliases: dict[Alias, int | None], versions: tuple[int, ...]) -> list[Change]:
    """Leave out what was written ahead and never happened.

    Args:
        changes: as written, oldest first.
        aliases: what each alias names.
        versions: the versions that are there; a retired one is not.
    """
    kept = [change for change in changes if change.alias != "retired" or change.after not in versions]
    for alias, named in aliases.items():
        last = max((place for place, change in enumerate(kept) if change.alias == alias), default=None)
        if last is not None and kept[last].after != named and kept[last].before == named:
            del kept[last]
    return kept


def previous_production(changes: list[Change], versions: tuple[int, ...]) -> int | None:
    """Return the version that was production before the present one; what was rolled back from does not count.

    Args:
        changes: oldest first.
        versions: the versions that are still there.
    """
    line: list[int | None] = []
    for change in changes:
        if change.alias != "production":
            continue
        line = line or [change.before]
        if change.is_rollback and change.after in line:
            del line[len(line) - line[::-1].index(change.after) :]
        else:
            line.append(change.after)
    earlier = (version for version in reversed(line[:-1]) if version in versions and version != line[-1])
    return next(earlier, None)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())
