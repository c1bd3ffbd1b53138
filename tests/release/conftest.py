"""Repositories with two models that answer otherwise; each test gets a copy of its own."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipeline import recipe
from pipeline.commands import main
from pipeline.publish import publish
from pipeline.repository import config
from pipeline.repository.aliases import Aliases
from pipeline.repository.transaction import Repository
from pipeline.run_directory import RunDirectory
from pipeline.train import train
from tests.conftest import QUICK_TEXT, made_ready

NAME = "opinions"


@pytest.fixture(scope="session")
def other_run(text_data: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A verified run over the same data with other weights."""
    keys = recipe.load(None, (*QUICK_TEXT, "train.seed=1", "train.epochs=2"))
    return made_ready(train(text_data, keys, tmp_path_factory.mktemp("other")))


@pytest.fixture(scope="session")
def three_versions(
    verified_run: RunDirectory, other_run: RunDirectory, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Versions 1 and 3 of one run, 2 of another; 2 is production, after 1, and 3 the candidate."""
    path = tmp_path_factory.mktemp("three") / "repository"
    publish(verified_run, path)
    publish(other_run, path)
    publish(verified_run, path, alias="candidate")
    return path


@pytest.fixture(scope="session")
def older_repository(three_versions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 1 alone, as it was published before there were aliases."""
    path = tmp_path_factory.mktemp("older") / "repository"
    shutil.copytree(three_versions / NAME / "1", path / NAME / "1")
    shutil.copy(three_versions / NAME / "labels.txt", path / NAME)
    version = path / NAME / "1"
    served = config.loads((version / "config.pbtxt").read_text())
    served.version_policy.latest.num_versions = 1
    (path / NAME / "config.pbtxt").write_text(config.dumps(served))
    (version / "config.pbtxt").unlink()
    manifest = (version / "manifest.json").read_text().splitlines(keepends=True)
    kept = [line for line in manifest if "config.pbtxt" not in line and "test_calibration_error" not in line]
    text = "".join(kept)
    for comma in (",\n  }", ",\n}"):  # after what stood last
        text = text.replace(comma, comma[1:])
    (version / "manifest.json").write_text(text)
    return path


@pytest.fixture
def repository(three_versions: Path, tmp_path: Path) -> Path:
    """A copy of `three_versions`."""
    return Path(shutil.copytree(three_versions, tmp_path / "repository"))


@pytest.fixture
def older(older_repository: Path, tmp_path: Path) -> Path:
    """A copy of `older_repository`."""
    return Path(shutil.copytree(older_repository, tmp_path / "repository"))


@pytest.fixture
def aliases(repository: Path) -> Aliases:
    return Aliases(Repository(repository))


@pytest.fixture
def invoke(repository: Path) -> Callable[..., Result]:
    """Run a command on the repository."""

    def run(verb: str, *words: object) -> Result:
        return CliRunner().invoke(main, [verb, *map(str, words), "--repository", str(repository)])

    return run
