"""Two verified runs whose answers nobody can mistake for each other's, and repositories and servers for them."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from pipeline.evaluate import evaluate
from pipeline.export import export
from pipeline.files import sha256_of, write_json
from pipeline.publish import publish
from pipeline.run_directory import RunDirectory
from pipeline.serve import Server, running
from pipeline.verify import verify
from tests.rollout.explicit import Explicit, explicit

NAME = "opinions"


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
    evaluate(run)
    export(run)
    report = verify(run)
    assert report.passed, [check.detail for check in report.checks if not check.passed]
    return run


@pytest.fixture
def repository(verified_run: RunDirectory, tmp_path: Path) -> Path:
    """A repository whose one model has one version, in production."""
    publish(verified_run, tmp_path / "model_repository")
    return tmp_path / "model_repository"


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
