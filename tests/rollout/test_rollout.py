"""One rollout forward: what it does, what it records, and what it wants before it touches anything."""

import json
from pathlib import Path
from threading import Event as Flag

import pytest

from pipeline.client import Client
from pipeline.errors import CheckFailed, RepositoryError, RequestError
from pipeline.publish import publish
from pipeline.release import promote
from pipeline.repository import scan
from pipeline.repository.goldens import Goldens
from pipeline.repository.transaction import Repository
from pipeline.rollout import Live, Record, Step, rollout
from pipeline.run_directory import RunDirectory
from pipeline.serve import Restarting, Server
from tests.rollout.conftest import NAME, Steady, aliases_of, roll_out
from tests.rollout.explicit import TOKEN, Explicit, explicit

STEPS = [
    "files are whole",
    "candidate is loaded",
    "candidate is warm",
    "candidate answers",
    "candidate is production",
    "production answers",
    "candidate is unloaded",
]


def test_a_run_goes_into_production_on_a_triton_that_wants_a_token(
    repository: Path, triton: Explicit, contrary_run: RunDirectory
) -> None:
    done = roll_out(contrary_run.path, "--url", triton.grpc_url, "--repository", repository, "--json", token=TOKEN)
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record == json.loads((repository / NAME / "rollout.json").read_text())
    assert (record["outcome"], record["before"], record["version"], record["reason"]) == ("rolled out", 1, 2, "")
    assert [step["name"] for step in record["steps"]] == STEPS
    assert record["steps"][3]["figures"]["answers"] > 64  # every golden row alone, and the largest batch
    assert aliases_of(repository) == (2, None)
    live = Live(triton.grpc_url, triton.access)
    assert live.versions(NAME) == (2,)
    assert live.versions(f"{NAME}.candidate") == ()
    live.require_answers(NAME, Goldens.load(repository / NAME / "2"))
    with pytest.raises(CheckFailed, match="opinions does not answer as it was verified: golden row 0: got 'praise'"):
        live.require_answers(NAME, Goldens.load(repository / NAME / "1"))


def test_a_run_goes_into_production_on_a_server_that_follows_the_disk_by_itself(
    repository: Path, embedded: Server, contrary_run: RunDirectory
) -> None:
    done = roll_out(contrary_run.path, "--url", embedded.grpc_url, "--repository", repository)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"opinions: version 2 is production on {embedded.grpc_url}\n"
    first, *steps = done.stderr.splitlines()
    assert first == f"{repository / NAME / '2'}: published as candidate"
    assert [line.split(" s  ")[1].split(":")[0] for line in steps] == STEPS
    assert not [event for event in embedded.events if isinstance(event, Restarting)]


def test_without_a_candidate_the_server_is_brought_to_what_is_production(
    repository: Path, triton: Explicit, contrary_run: RunDirectory
) -> None:
    publish(contrary_run, repository, alias="candidate")
    promote(repository, NAME)
    live = Live(triton.grpc_url, triton.access)
    assert live.versions(NAME) == (1,), "a Triton in explicit mode loads nothing by itself"
    step, record = rollout(NAME, repository, live, Flag())
    assert isinstance(step, Step)
    assert step.name == "production answers"
    assert isinstance(record, Record)
    assert live.versions(NAME) == (2,)


def test_a_caller_who_insists_on_a_version_is_refused_when_it_is_gone(
    repository: Path, triton: Explicit, contrary_run: RunDirectory
) -> None:
    publish(contrary_run, repository, alias="candidate")
    with Client(triton.grpc_url, NAME, "1", access=triton.access) as client:
        client.classify(["the film is lovely"])
        list(rollout(NAME, repository, Live(triton.grpc_url, triton.access), Flag()))
        with pytest.raises(RequestError, match="opinions has no version 1; there are: 2"):
            client.classify(["the film is lovely"])


def test_a_candidate_that_differs_no_more_than_it_may_passes_its_shadow(
    repository: Path, triton: Explicit, verified_run: RunDirectory, text_file: Path
) -> None:
    where = ("--url", triton.grpc_url, "--repository", repository)
    trial = ("--shadow", text_file, "--shadow-rows", 60, "--max-slowdown", 50)
    done = roll_out(verified_run.path, *where, *trial, "--json", token=TOKEN)
    assert done.exit_code == 0, done.output
    (figures,) = [step["figures"] for step in json.loads(done.stdout)["steps"] if step["name"] == "candidate compares"]
    assert 0 < figures["rows"] <= 60
    assert figures["disagreements"] == 0
    assert figures["candidate_median_ms"] > 0


@pytest.mark.parametrize("token", ["", "a-guess"])
def test_without_the_token_there_is_one_line_and_nothing_is_touched(
    token: str, steady: Steady, contrary_run: RunDirectory
) -> None:
    versions = sorted(path.name for path in (steady.repository / NAME).iterdir())
    done = roll_out(contrary_run.path, "--url", steady.live.url, "--repository", steady.repository, token=token)
    assert done.exit_code == 1
    assert done.output == (
        f"pipeline: {steady.live.url}: the server wants a token, or another one. Set PIPELINE_TOKEN.\n"
    )
    assert sorted(path.name for path in (steady.repository / NAME).iterdir()) == versions


def test_the_token_is_asked_for_where_the_list_of_models_is_open_as_behind_a_gateway(
    repository: Path, contrary_run: RunDirectory
) -> None:
    with explicit(repository, NAME, restricted="statistics") as server:
        done = roll_out(contrary_run.path, "--url", server.grpc_url, "--repository", repository)
    assert done.exit_code == 1
    assert "the server wants a token" in done.output
    assert Repository(repository).versions(NAME) == [1]


def test_without_a_server_nothing_is_published(repository: Path, contrary_run: RunDirectory) -> None:
    done = roll_out(contrary_run.path, "--url", "127.0.0.1:9", "--repository", repository)
    assert done.exit_code == 1
    assert done.output.startswith("pipeline: 127.0.0.1:9: failed to connect")
    assert done.output.count("\n") == 1
    assert aliases_of(repository) == (1, None)


@pytest.mark.parametrize("name", ["opinion", "new"])
def test_a_model_without_production_has_none_to_go_back_to(
    name: str, steady: Steady, contrary_run: RunDirectory
) -> None:
    words = ("--url", steady.live.url, "--repository", steady.repository)
    done = roll_out(contrary_run.path, "--name", name, *words) if name == "new" else roll_out(name, *words)
    assert done.exit_code == 2
    assert f"{name}: no version of it is production in {steady.repository}" in done.output
    assert not (steady.repository / name).exists()


def test_a_second_rollout_of_a_model_waits_for_the_first(steady: Steady, contrary_run: RunDirectory) -> None:
    publish(contrary_run, steady.repository, alias="candidate")
    with steady.untouched(candidate=True):
        first = rollout(NAME, steady.repository, steady.live, Flag())
        next(first)
        with pytest.raises(RepositoryError, match="another rollout of it is under way"):
            next(rollout(NAME, steady.repository, steady.live, Flag()))
        first.close()


def test_a_second_rollout_does_not_replace_the_candidate_of_the_first(
    steady: Steady, verified_run: RunDirectory, contrary_run: RunDirectory
) -> None:
    publish(contrary_run, steady.repository, alias="candidate")
    versions = scan(steady.repository)
    with steady.untouched(candidate=True):
        first = rollout(NAME, steady.repository, steady.live, Flag())
        next(first)
        words = ("--url", steady.live.url, "--repository", steady.repository)
        second = roll_out(verified_run.path, *words, token=TOKEN)
        assert second.exit_code == 1
        assert second.output.endswith("another rollout of it is under way. Try again later.\n")
        assert scan(steady.repository) == versions
        first.close()


def test_the_candidate_is_no_model_to_roll_out(steady: Steady, contrary_run: RunDirectory) -> None:
    publish(contrary_run, steady.repository, alias="candidate")
    words = ("--url", steady.live.url, "--repository", steady.repository)
    done = roll_out(f"{NAME}.candidate", *words, token=TOKEN)
    assert done.exit_code == 2
    assert f"{NAME}.candidate: no version of it is production in {steady.repository}" in done.output


def test_a_share_for_a_canary_wants_rows(steady: Steady) -> None:
    done = roll_out(NAME, "--canary-share", 0.1, "--url", steady.live.url, "--repository", steady.repository)
    assert done.exit_code == 2
    assert "--canary-share: of which rows? Give a file of them with --shadow." in done.output


def test_a_file_that_cannot_be_read_stops_a_rollout_before_it_begins(
    steady: Steady, contrary_run: RunDirectory
) -> None:
    before = sorted(path.name for path in (steady.repository / NAME).iterdir())
    words = ("--url", steady.live.url, "--repository", steady.repository, "--shadow", "nowhere.csv")
    done = roll_out(contrary_run.path, *words, token=TOKEN)
    assert done.exit_code == 2
    assert "nowhere.csv" in done.output
    assert sorted(path.name for path in (steady.repository / NAME).iterdir()) == before
