"""Two verified runs whose answers nobody can mistake for each other's, and repositories and servers for them."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from safetensors.numpy import load_file, save_file

from pipeline.commands import main
from pipeline.files import sha256_of, write_json
from pipeline.publish import publish
from pipeline.repository.aliases import Aliases
from pipeline.repository.goldens import Goldens
from pipeline.repository.transaction import Repository
from pipeline.rollout import Event, Live, Step
from pipeline.run_directory import RunDirectory
from pipeline.serve import Server, running
from tests.conftest import made_ready
from tests.rollout.callers import Timeline, calling, more
from tests.rollout.explicit import Explicit, explicit

NAME = "opinions"


def aliases_of(repository: Path) -> tuple[int | None, int | None]:
    """Production and candidate, as they stand on disk."""
    there = Aliases(Repository(repository))
    return there.production(NAME), there.candidate(NAME)


def up_to(name: str, rolling: Iterator[Event]) -> None:
    """Let a rollout go on until a step has passed."""
    for event in rolling:
        if isinstance(event, Step) and event.name == name:
            return
    raise AssertionError(f"no step {name!r}")


def roll_out(*words: object, token: str = "") -> Result:
    """Run the command."""
    return CliRunner(env={"PIPELINE_TOKEN": token}).invoke(main, ["rollout", *map(str, words)])


@pytest.fixture(scope="session")
def contrary_run(trained_run: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A verified run that gives every text the other label: the trained run with its last layer negated."""
    path = tmp_path_factory.mktemp("contrary") / trained_run.path.name
    shutil.copytree(trained_run.path, path)
    weights = load_file(path / "weights.safetensors")
    for key in ("head.weight", "head.bias"):
        weights[key] = -weights[key]
    save_file(weights, path / "weights.safetensors")
    run = RunDirectory.open(path)
    hashes = {**run.info["hashes"], "weights.safetensors": sha256_of(path / "weights.safetensors")}
    write_json(path / "run.json", {**run.info, "hashes": hashes})
    return made_ready(run)


@pytest.fixture
def repository(verified_run: RunDirectory, tmp_path: Path) -> Path:
    """A repository whose one model has one version, in production."""
    publish(verified_run, tmp_path / "model_repository")
    return tmp_path / "model_repository"


@pytest.fixture(scope="module")
def steady(verified_run: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> Iterator["Steady"]:
    """A repository and a Triton that wants a token, for rollouts that all leave version 1 in production."""
    repository = tmp_path_factory.mktemp("steady") / "model_repository"
    publish(verified_run, repository)
    with explicit(repository, NAME) as server:
        yield Steady(repository, server)


@dataclass(frozen=True)
class Steady:
    """A repository, and the server that serves it."""

    repository: Path
    server: Explicit

    @property
    def live(self) -> Live:
        return Live(self.server.grpc_url, self.server.access)

    @contextmanager
    def untouched(self, candidate: bool = False) -> Iterator[None]:
        """Check that production answers as ever, all the while and afterwards, and whether a candidate is left."""
        first = self.repository / NAME / "1"
        with calling(self.live.url, self.live.access, first, 2) as calls:
            yield
            more(calls)
        assert calls.failures == []
        assert calls.wrong({1: Goldens.load(first)}, Timeline.beginning_with(1)) == []
        assert self.live.versions(NAME) == (1,)
        assert self.live.versions(f"{NAME}.candidate") == ()
        production, left = aliases_of(self.repository)
        assert production == 1
        assert (left is not None) == candidate


@pytest.fixture
def embedded(repository: Path) -> Iterator[Server]:
    """`pipeline serve`, which loads by itself what changes on disk."""
    with running(repository) as server:
        yield server


@pytest.fixture
def triton(repository: Path) -> Iterator[Explicit]:
    """A Triton that loads what it is told to, by those who have its token."""
    with explicit(repository, NAME) as server:
        yield server
