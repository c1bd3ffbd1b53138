"""Versions change while many ask: nobody is refused, and nobody is answered by a version that cannot be live."""

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from threading import Event as Flag
from urllib.request import urlopen

import pytest

from pipeline.client import Access, Client
from pipeline.publish import publish
from pipeline.release import promote, rollback
from pipeline.repository.aliases import Aliases
from pipeline.repository.goldens import Goldens
from pipeline.repository.transaction import Repository
from pipeline.rollout import Live, rollout
from pipeline.run_directory import RunDirectory
from tests.rollout.callers import CALLERS, Timeline, calling, more
from tests.rollout.conftest import NAME
from tests.rollout.explicit import Explicit
from tests.serve.asking import eventually, stubs_of

pytestmark = pytest.mark.long

CHANGES = 20


class Changes:
    """Three ways to change what a server answers from; each ends when it answers so."""

    def __init__(self, repository: Path, live: Live, *runs: RunDirectory) -> None:
        self.repository, self.live, self.runs = repository, live, cycle(runs)
        self.aliases = Aliases(Repository(repository))
        self.timeline = Timeline.beginning_with(1)

    def roll_out(self) -> None:
        """Publish the other run as candidate, and roll it out."""
        version = int(publish(next(self.runs), self.repository, alias="candidate").name)
        with self.timeline.change_to(version):
            self._take()

    def roll_back(self) -> None:
        version = self.aliases.previous_production(NAME)
        assert version is not None
        with self.timeline.change_to(version):
            assert rollback(self.repository, NAME) == version
            self._take()

    def promote(self) -> None:
        version = self.aliases.store.versions(NAME)[-1]
        with self.timeline.change_to(version):
            promote(self.repository, NAME, version)
            self._take()

    def goldens(self) -> dict[int, Goldens]:
        versions = self.aliases.store.versions(NAME)
        return {version: Goldens.load(self.repository / NAME / str(version)) for version in versions}

    def _take(self) -> None:
        """Roll out the candidate, or else bring the server to what is production."""
        assert list(rollout(NAME, self.repository, self.live, Flag()))


@pytest.mark.parametrize("kind", ["triton", "embedded"])
def test_twenty_changes_under_eight_callers_fail_no_request_and_give_no_wrong_answer(
    kind: str,
    repository: Path,
    verified_run: RunDirectory,
    contrary_run: RunDirectory,
    request: pytest.FixtureRequest,
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    server = request.getfixturevalue(kind)
    live = Live(server.grpc_url, getattr(server, "access", Access()))
    changes = Changes(repository, live, contrary_run, verified_run)
    with calling(live.url, live.access, repository / NAME / "1", CALLERS) as calls:
        for change in islice(cycle([changes.roll_out, changes.roll_back, changes.promote]), CHANGES):
            change()
            more(calls)
    assert len(changes.timeline.spans) == 1 + CHANGES
    assert calls.failures == []
    assert calls.wrong(changes.goldens(), changes.timeline) == []
    assert {answer.label for answer in calls.answers if answer.row == 0} == {"praise", "blame"}, "one version only"
    record_testsuite_property(f"{kind}: answers", len(calls.answers))
    record_testsuite_property(f"{kind}: longest seconds", calls.longest)


def test_an_answer_of_a_version_that_cannot_be_live_is_found_out(
    repository: Path, triton: Explicit, contrary_run: RunDirectory
) -> None:
    changes = Changes(repository, Live(triton.grpc_url, triton.access), contrary_run)
    with calling(triton.grpc_url, triton.access, repository / NAME / "1", 1) as calls:
        more(calls)
    assert calls.wrong(changes.goldens(), changes.timeline) == []
    publish(contrary_run, repository, alias="none")
    assert calls.wrong(changes.goldens(), Timeline.beginning_with(2)) == calls.answers


@pytest.mark.serial  # Triton gives up a process that has been stopped for a second
def test_requests_under_way_are_answered_by_the_version_that_they_reached(
    repository: Path, triton: Explicit, contrary_run: RunDirectory
) -> None:
    publish(contrary_run, repository, alias="candidate")
    client = Client(triton.grpc_url, NAME, access=triton.access, timeout_seconds=60)
    stubs = stubs_of(triton.pid)
    with client, ThreadPoolExecutor(len(stubs) + 1) as callers:
        rows = ["the film is lovely"] * client.contract().max_batch_size  # two such requests do not fit into one batch
        old = client.classify(rows)
        for stub in stubs:
            os.kill(stub, signal.SIGSTOP)
        try:
            under_way = [callers.submit(client.classify, rows) for _ in range(len(stubs) + 1)]
            eventually(lambda: waiting(triton) == 1)  # and the others lie with the processes that were stopped
            promote(repository, NAME)
            Live(triton.grpc_url, triton.access).load(NAME)
            new = client.classify(rows)
            assert not any(future.done() for future in under_way)
        finally:
            for stub in stubs:
                os.kill(stub, signal.SIGCONT)
        assert [future.result(60) for future in under_way] == [old] * len(under_way)
        assert new[0].label != old[0].label


def waiting(triton: Explicit) -> int:
    """How many requests wait for version 1."""
    with urlopen(f"http://{triton.metrics_url}/metrics") as page:
        lines = page.read().decode().splitlines()
    found = [line for line in lines if line.startswith("nv_inference_pending_request_count{") and 'version="1"' in line]
    return int(float(found[0].rpartition(" ")[2]))
