"""Live endpoints: the same answers by every way in, and nothing said about the files."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline import recipe
from pipeline.commands import main
from pipeline.errors import RequestError, ServerError
from pipeline.export import export
from pipeline.publish import publish
from pipeline.run_directory import RunDirectory
from pipeline.serve import running
from pipeline.train import train
from pipeline.verify import verify
from tests.conftest import QUICK_TEXT


@pytest.mark.parametrize("run_fixture", ["verified_run", "verified_feature_run"])
def test_the_live_endpoint_gives_the_same_answers_over_grpc_and_http(
    run_fixture: str, published_repository: Path, copy_of, request: pytest.FixtureRequest
) -> None:
    run = copy_of(request.getfixturevalue(run_fixture))
    with running(published_repository) as server:
        ways = (f"grpc://{server.grpc_url}", f"http://{server.http_url}")
        report = verify(run, engines=ways)
    assert report.passed
    assert not report.failures
    wanted = {"contract", "grid", "held-out rows", "padded", "mixed", "shuffled", "repeated"}
    for way in ways:
        assert wanted <= {check.name for check in report.endpoint_checks if check.engine == way}
    assert not report.engine_checks


def test_an_endpoint_that_cannot_be_asked_is_no_failed_check_and_leaves_the_report(
    verified_run: RunDirectory, published_repository: Path, copy_of, tmp_path: Path
) -> None:
    run = copy_of(verified_run)
    before = (run / "parity.json").read_bytes()
    for scheme in ("grpc", "http"):
        with pytest.raises(ServerError, match="no Triton server answers"):
            verify(run, engines=(f"{scheme}://127.0.0.1:9",))
    with running(published_repository, models=("waves",)) as server:
        ways = (f"grpc://{server.grpc_url}", f"http://{server.http_url}")
        for way, reason in zip(ways, ("opinions is not ready", "opinions refused the request: 404"), strict=True):
            with pytest.raises(RequestError, match=reason):
                verify(run, engines=(way,))
        assert (run / "parity.json").read_bytes() == before
        report = verify(run, engines=ways, endpoint_model="waves")
    assert [check.name for check in report.endpoint_checks] == ["contract", "contract"]
    for check in report.endpoint_checks:
        assert not check.passed
        assert "serves ('features', 2, ('fast', 'middling', 'slow'))" in check.detail
    assert report.passed, "an endpoint says nothing about the files"
    publish(run, tmp_path)


def test_an_endpoint_that_serves_another_model_is_caught(
    verified_run: RunDirectory, text_data: Path, copy_of, tmp_path: Path
) -> None:
    other = train(text_data, recipe.load(None, (*QUICK_TEXT, "train.seed=5", "publish.name=opinions")), tmp_path)
    export(other)
    assert verify(other).passed
    publish(other, tmp_path / "model_repository")
    run = copy_of(verified_run)
    with running(tmp_path / "model_repository") as server:
        http = f"http://{server.http_url}"
        result = CliRunner().invoke(main, ["verify", str(run.path), "--endpoint", server.grpc_url, "--engine", http])
    assert result.exit_code == 3, result.output
    assert f"grpc://{server.grpc_url} held-out rows" in result.stderr
    assert f"{http} held-out rows" in result.stderr
