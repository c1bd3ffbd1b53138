"""Versions change while many ask: nobody is refused, and nobody is answered by a version that cannot be live."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from typing import Literal

import pytest

from pipeline.client import Access, Client
from pipeline.publish import publish
from pipeline.repository.aliases import Aliases
from pipeline.repository.goldens import Goldens
from pipeline.repository.transaction import Repository
from pipeline.rollout import Live, rollout
from pipeline.run_directory import RunDirectory
from tests.rollout.callers import Timeline, calling
from tests.rollout.conftest import NAME
from tests.rollout.explicit import Explicit
from tests.serve.asking import eventually, processor_seconds, stubs_of

CHANGES = 20
CALLERS = 8


class Changes:
    """Three ways to change what a server answers from, in turn: each ends when the server answers so."""

    def __init__(self, repository: Path, live: Live, runs: tuple[RunDirectory, RunDirectory], timeline: Timeline) -> None:
        self.repository, self.live, self.timeline = repository, live, timeline
        self.runs = cycle(runs)
        self.aliases = Aliases(Repository(repository))

    def roll_out(self) -> None:
        version = int(publish(next(self.runs), self.repository, alias="candidate").name)
        with self.timeline.change_to(version):
            self._take()

    def roll_back(self) -> None:
        self._set(self.aliases.previous_production(NAME), is_rollback=True)

    def promote(self) -> None:
        self._set(self.aliases.store.versions(NAME)[-1])

    def _set(self, version: int | None, is_rollback: bool = False) -> None:
        assert version is not None
        with self.timeline.change_to(version):
            with self.aliases.store.locked():
                self.aliases.set_production(NAME, version, "a test", is_rollback=is_rollback)
            self._take()

    def _take(self) -> None:
        """Roll out the candidate, or else bring the server to what is production."""
        for _ in rollout(NAME, self.repository, self.live, threading.Event()):
            pass


@pytest.mark.parametrize("kind", ["triton", "embedded"])
def test_twenty_changes_under_eight_callers_fail_no_request_and_give_no_wrong_answer(
    kind: Literal["triton", "embedded"],
    repository: Path,
    verified_run: RunDirectory,
    contrary_run: RunDirectory,
    request: pytest.FixtureRequest,
) -> None:
    server = request.getfixturevalue(kind)
    live = Live(server.grpc_url, getattr(server, "access", Access()))
    timeline = Timeline.beginning_with(1)
    changes = Changes(repository, live, (contrary_run, verified_run), timeline)
    with calling(live.url, live.access, repository / NAME / "1", CALLERS) as calls:
        for change in islice(cycle([changes.roll_out, changes.roll_back, changes.promote]), CHANGES):
            before = len(calls.answers)
            change()
            eventually(lambda: len(calls.answers) > before + CALLERS, 30)
    versions = {number: Goldens.load(repository / NAME / str(number)) for number in changes.aliases.store.versions(NAME)}
    assert len(timeline.spans) == CHANGES + 1
    assert calls.failures == []
    assert calls.wrong(versions, timeline) == []
    assert len({answer.label for answer in calls.answers if answer.row == 0}) == 2, "both kinds of version answered"
    print(f"{kind}: {len(calls.answers)} answers, {CHANGES} changes, the longest {calls.longest:.2f} s")
