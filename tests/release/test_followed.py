"""A running server follows what the commands do, and `status --url` sees whether it does."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipeline.client import Client
from pipeline.client.control import Control
from pipeline.commands import main
from pipeline.errors import RepositoryError
from pipeline.files import write_text
from pipeline.release import status
from pipeline.release.served import look
from pipeline.repository.aliases import candidate_model
from pipeline.repository.goldens import Goldens
from pipeline.serve import Server, running
from tests.release.conftest import NAME
from tests.serve.asking import eventually

CANDIDATE = candidate_model(NAME)


@pytest.fixture(scope="module")
def served_repository(three_versions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `three_versions` that a server serves and the tests change."""
    return Path(shutil.copytree(three_versions, tmp_path_factory.mktemp("served") / "repository"))


@pytest.fixture(scope="module")
def server(served_repository: Path) -> Iterator[Server]:
    with running(served_repository, timeout_seconds=120) as server:
        yield server


def differences(repository: Path, server: Server) -> list[str]:
    return [problem for model in status(repository, url=server.grpc_url) for problem in model.problems]


def expect_answers(repository: Path, server: Server, model: str, version: int) -> None:
    """A request without a version is answered as that version was verified to answer."""
    goldens = Goldens.load(repository / NAME / str(version))
    with Client(server.grpc_url, model, timeout_seconds=60) as client:
        answers = client.classify([golden.row for golden in goldens.rows])
    assert goldens.faults((answer.label, list(answer.probabilities.values())) for answer in answers) == []


def run(verb: str, repository: Path, *words: str) -> Result:
    result = CliRunner().invoke(main, [verb, *words, "--repository", str(repository)])
    assert result.exit_code == 0, result.output
    return result


def test_promote_and_rollback_are_followed_and_seen(served_repository: Path, server: Server) -> None:
    def is_followed() -> bool:
        return not differences(served_repository, server)

    assert is_followed()
    expect_answers(served_repository, server, NAME, 2)
    expect_answers(served_repository, server, CANDIDATE, 3)
    assert run("promote", served_repository, NAME).stdout.endswith("opinions/3\n")
    assert differences(served_repository, server) != []
    eventually(is_followed, 120)
    expect_answers(served_repository, server, NAME, 3)
    assert run("rollback", served_repository, NAME).stdout.endswith("opinions/2\n")
    eventually(is_followed, 120)
    expect_answers(served_repository, server, NAME, 2)
    with Control(server.grpc_url) as control:
        assert control.versions() == {NAME: (2,)}
        assert control.config(NAME).parameters["version"].string_value == "2"
    printed = run("status", served_repository, "--url", server.grpc_url).stdout
    assert "opinions: version 2 answers; " in printed


def test_a_server_that_serves_another_version_or_configuration_is_named(
    served_repository: Path, server: Server, tmp_path: Path
) -> None:
    eventually(lambda: not differences(served_repository, server), 120)
    said = Path(shutil.copytree(served_repository, tmp_path / "said"))
    run("promote", said, NAME, "1")
    assert differences(said, server) == [  # and no word of a version that was unloaded as it should be
        f"{NAME}: the server has version 2 ready, the repository says version 1",
    ]
    result = CliRunner().invoke(main, ["status", "--repository", str(said), "--url", server.grpc_url])
    assert result.exit_code == 3
    assert "the server has version 2 ready, the repository says version 1" in result.stdout
    run("promote", said, NAME, "2")
    assert differences(said, server) == []
    text = (said / NAME / "config.pbtxt").read_text()
    write_text(said / NAME / "config.pbtxt", text.replace('string_value: "2"', 'string_value: "4"'))
    assert f"{NAME}: parameter version is 2 on the server, 4 in the repository" in differences(said, server)
    shutil.rmtree(said / NAME)
    with pytest.raises(RepositoryError, match="config.pbtxt: was taken away while it was compared. Look again"):
        look(said, {NAME: 2}, server.grpc_url, None)
    assert differences(said, server) == []  # it says nothing of that model
