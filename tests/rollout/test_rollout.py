"""One rollout: forward, and back by itself."""

import json
from collections.abc import Callable
from pathlib import Path
from threading import Event as Flag

import pytest
from click.testing import CliRunner, Result

from pipeline.client import Access, Client
from pipeline.commands import main
from pipeline.errors import RequestError
from pipeline.publish import publish
from pipeline.repository.aliases import Aliases
from pipeline.repository.goldens import Goldens
from pipeline.repository.transaction import Repository
from pipeline.rollout import Live, Record, Step, rollout
from pipeline.run_directory import RunDirectory
from pipeline.serve import Restarting, Server
from tests.rollout.callers import Timeline, calling
from tests.rollout.conftest import NAME
from tests.rollout.explicit import TOKEN, Explicit


STEPS = [
    "files are whole",
    "candidate is loaded",
    "candidate is warm",
    "candidate answers",
    "candidate is production",
    "production answers",
    "candidate is unloaded",
]


def invoke(*words: object, token: str = "") -> Result:
    return CliRunner(env={"PIPELINE_TOKEN": token}).invoke(main, ["rollout", *map(str, words)])


def aliases(repository: Path) -> tuple[int | None, int | None]:
    """Production and candidate, as they stand on disk."""
    there = Aliases(Repository(repository))
    return there.production(NAME), there.candidate(NAME)


def restarts(server: Server) -> list[Restarting]:
    return [event for event in server.events if isinstance(event, Restarting)]


def test_a_run_goes_into_production_on_a_triton_that_wants_a_token(
    repository: Path, triton: Explicit, contrary_run: RunDirectory
) -> None:
    done = invoke(contrary_run.path, "--url", triton.grpc_url, "--repository", repository, "--json", token=TOKEN)
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record == json.loads((repository / NAME / "rollout.json").read_text())
    assert (record["outcome"], record["before"], record["version"]) == ("rolled out", 1, 2)
    assert aliases(repository) == (2, None)
    live = Live(triton.grpc_url, triton.access)
    assert live.versions(NAME) == (2,)
    assert live.versions(f"{NAME}.candidate") == ()
    live.require_answers(NAME, Goldens.load(repository / NAME / "2"))
    with (
        Client(triton.grpc_url, NAME, "1", access=triton.access) as old,
        pytest.raises(RequestError, match="opinions has no version 1; there are: 2"),
    ):
        old.classify(["the film is lovely"])


def test_a_run_goes_into_production_on_a_server_that_follows_the_disk_by_itself(
    repository: Path, embedded: Server, contrary_run: RunDirectory
) -> None:
    done = invoke(contrary_run.path, "--url", embedded.grpc_url, "--repository", repository)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"opinions: version 2 is production on {embedded.grpc_url}\n"
    assert [line.split("  ")[-1].split(":")[0] for line in done.stderr.splitlines()[1:]] == STEPS
    assert f"{repository / NAME / '2'}: published as candidate\n" in done.stderr
    assert restarts(embedded) == []
