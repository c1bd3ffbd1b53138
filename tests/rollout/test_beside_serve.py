"""`pipeline serve` loads by itself what changes on disk: neither it nor a rollout is disturbed by the other."""

import time
from pathlib import Path

import pytest

from pipeline.client import Access
from pipeline.client.control import Control
from pipeline.publish import publish
from pipeline.repository.aliases import Aliases
from pipeline.repository.goldens import Goldens
from pipeline.repository.transaction import Repository
from pipeline.rollout import Live
from pipeline.run_directory import RunDirectory
from pipeline.serve import LoadFailed, Restarting, Server, monitor, running
from tests.rollout.callers import Timeline, calling, more
from tests.rollout.conftest import NAME, aliases_of, roll_out
from tests.rollout.test_going_back import damage, forge, truncated
from tests.serve.asking import eventually

CANDIDATE = f"{NAME}.candidate"


def wait(seconds: float) -> None:
    begun = time.monotonic()
    eventually(lambda: time.monotonic() - begun > seconds, 2 * seconds + 5)


def restarts(server: Server) -> list[Restarting]:
    return [event for event in server.events if isinstance(event, Restarting)]


def test_a_candidate_that_somebody_unloads_is_not_taken_for_a_lost_server(
    repository: Path, contrary_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "CANARY_SECONDS", 0.1)
    with running(repository) as server, Control(server.grpc_url) as control:
        publish(contrary_run, repository, alias="candidate")
        eventually(lambda: control.versions() == {NAME: (1,), CANDIDATE: (2,)})
        wait(4 * monitor.CANARY_SECONDS)
        control.unload(CANDIDATE, 10)
        wait(10 * monitor.CANARY_SECONDS + 2 * monitor.TICK_SECONDS)
        assert control.versions() == {NAME: (1,)}
        assert restarts(server) == []


def test_a_damaged_candidate_goes_back_beside_a_server_that_tries_to_load_it_too(
    repository: Path, embedded: Server, contrary_run: RunDirectory
) -> None:
    version = publish(contrary_run, repository, alias="none")
    damage(version / "model.onnx", truncated)
    forge(version)
    store = Repository(repository)
    with store.locked():
        Aliases(store).set_candidate(NAME, 2, "a test")
    eventually(lambda: any(isinstance(event, LoadFailed) and event.model == CANDIDATE for event in embedded.events))
    with calling(embedded.grpc_url, Access(), repository / NAME / "1") as calls:
        done = roll_out(NAME, "--url", embedded.grpc_url, "--repository", repository)
        more(calls)
    assert done.exit_code == 3
    assert "opinions.candidate could not be loaded" in done.stderr
    assert calls.failures == []
    assert calls.wrong({1: Goldens.load(repository / NAME / "1")}, Timeline.beginning_with(1)) == []
    assert aliases_of(repository) == (1, None)
    assert restarts(embedded) == []


def test_a_damaged_candidate_does_not_keep_a_server_from_starting(repository: Path, contrary_run: RunDirectory) -> None:
    version = publish(contrary_run, repository, alias="candidate")
    damage(version / "model.onnx", truncated)
    with running(repository) as server:
        assert server.ready.models == {NAME: (1,)}
        (failed,) = [event for event in server.events if isinstance(event, LoadFailed)]
        assert failed.model == CANDIDATE
        Live(server.grpc_url, Access()).require_answers(NAME, Goldens.load(repository / NAME / "1"))
