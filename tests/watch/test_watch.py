"""The canary against a real Triton: right, wrong, gone, and a version that changes under it."""

import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from urllib.request import urlopen

import pytest
from click.testing import CliRunner, Result

from pipeline.client import Access
from pipeline.commands import main
from pipeline.errors import ServerError, UsageError
from pipeline.publish import publish
from pipeline.run_directory import RunDirectory
from pipeline.serve import Server, running
from pipeline.watch import Exposition, Round, watch
from pipeline.watch.certificate import expiry
from tests.client.certificates import Authority

MODEL = "opinions"


@pytest.fixture(scope="module")
def repository(published_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that is served; its versions are added to."""
    return Path(shutil.copytree(published_repository, tmp_path_factory.mktemp("watched") / "model_repository"))


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Server]:
    with running(repository, models=(MODEL,)) as server:
        yield server


def rounds_until(condition: Callable[[Round], object], url: str, repository: Path, most: int = 100) -> list[Round]:
    """Watch until a round is as it is waited for; return all that were seen."""
    seen: list[Round] = []
    with closing(watch(url, MODEL, repository, threading.Event(), every_seconds=0.2)) as rounds:
        for finished in rounds:
            seen.append(finished)
            if condition(finished):
                return seen
            assert len(seen) < most, seen[-1]
    raise AssertionError("it ended by itself")


def test_right_answers_are_a_success(server: Server, repository: Path) -> None:
    (first,) = rounds_until(lambda _: True, server.grpc_url, repository)
    assert first.is_success
    assert (first.version, first.wrong, first.failure, first.certificate_expires) == (1, (), "", None)
    assert 0 < first.seconds < 30


def test_an_answer_that_is_not_the_verified_one_is_told(server: Server, repository: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(repository, tmp_path / "other"))
    for file in (other / MODEL).glob("*/parity.json"):
        report = json.loads(file.read_text())
        report["goldens"][1]["probabilities"].reverse()
        file.write_text(json.dumps(report))
    (first,) = rounds_until(lambda _: True, server.grpc_url, other)
    assert not first.is_success
    assert len(first.wrong) == 1
    assert first.wrong[0].startswith("golden row 1: got ")
    assert first.failure == ""


def test_another_number_of_classes_is_a_wrong_answer_and_not_the_end(
    server: Server, repository: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(repository, tmp_path / "other"))
    for file in (other / MODEL).glob("*/parity.json"):
        report = json.loads(file.read_text())
        report["goldens"][0]["probabilities"].append(0.0)
        file.write_text(json.dumps(report))
    (first,) = rounds_until(lambda _: True, server.grpc_url, other)
    assert len(first.wrong) == 1
    assert "max |Δ probability| inf" in first.wrong[0]


def test_a_golden_row_without_its_answer_is_a_failure_and_not_the_end(
    server: Server, repository: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(repository, tmp_path / "other"))
    for file in (other / MODEL).glob("*/parity.json"):
        report = json.loads(file.read_text())
        del report["goldens"][0]["label"]
        file.write_text(json.dumps(report))
    (first,) = rounds_until(lambda _: True, server.grpc_url, other)
    assert "parity.json: a golden row was edited (KeyError('label'))" in first.failure


def test_a_certificate_for_another_name_shows_when_it_ends(tmp_path: Path) -> None:
    ours = Authority(tmp_path, "ours")
    shown = ours.sign("server", "triton.example", timedelta(days=3))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(shown.path, shown.key)

    def answer(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        ends = expiry(url, Access(ca=ours.path, server_name="triton.example"), 30)
        thread.join()
    assert ends == pytest.approx(time.time() + timedelta(days=3).total_seconds(), abs=3600)


def test_goldens_that_are_not_there_are_a_failure_and_not_the_end(
    server: Server, repository: Path, tmp_path: Path
) -> None:
    (tmp_path / MODEL).mkdir()
    (first,) = rounds_until(lambda _: True, server.grpc_url, tmp_path)
    assert not first.is_success
    assert "manifest.json" in first.failure


def test_a_version_that_changes_while_it_is_watched_is_never_wrong(
    server: Server, repository: Path, verified_run: RunDirectory
) -> None:
    thread = threading.Timer(0.5, publish, (verified_run, repository))
    thread.start()
    seen = rounds_until(lambda finished: finished.version == 2, server.grpc_url, repository)
    thread.join()
    assert [finished for finished in seen if not finished.is_success] == []
    assert [finished.version for finished in seen] == sorted(finished.version or 0 for finished in seen)


def test_a_server_that_is_gone_is_a_failure(repository: Path) -> None:
    with running(repository, models=(MODEL,)) as server:
        url = server.grpc_url
        rounds_until(lambda finished: finished.is_success, url, repository)
    (gone,) = rounds_until(lambda _: True, url, repository)
    assert not gone.is_success
    assert gone.failure
    assert gone.version is None


def test_it_ends_when_it_is_told_to(server: Server, repository: Path) -> None:
    stop = threading.Event()
    rounds = watch(server.grpc_url, MODEL, repository, stop, every_seconds=600)
    next(rounds)
    threading.Timer(0.2, stop.set).start()
    assert list(rounds) == []


@pytest.mark.parametrize(
    ("url", "model", "access", "message"),
    [
        ("127.0.0.1:1", "opinion", Access(), "no model named opinion. Name the repository"),
        ("http://127.0.0.1:1", MODEL, Access(), "wanted HOST:PORT"),
        ("127.0.0.1:1", MODEL, Access(ca=Path("no/such.crt")), "no/such.crt: cannot be read"),
        ("127.0.0.1:1", MODEL, Access(certificate=Path(__file__)), "go together"),
    ],
)
def test_what_can_never_succeed_is_refused_at_once(
    repository: Path, url: str, model: str, access: Access, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        next(watch(url, model, repository, threading.Event(), access=access))


def scraped(port: int) -> dict[str, float]:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = re.findall(r'^pipeline_canary_(\w+){model="opinions"} (\S+)$', text, re.MULTILINE)
    return {name: float(value) for name, value in found if not name.endswith("_created")}


def test_rounds_are_shown_as_metrics() -> None:
    with Exposition(MODEL, "127.0.0.1", 0) as exposition:
        assert scraped(exposition.port)["success"] == 0  # nothing has been seen yet
        exposition.show(Round(0.25, 3, certificate_expires=1e9))
        right = scraped(exposition.port)
        exposition.show(Round(0.5, 4, ("one", "two")))
        wrong = scraped(exposition.port)
        exposition.show(Round(0.75, failure="gone"))
        gone = scraped(exposition.port)
    assert (right["success"], right["seconds"], right["served_version"], right["wrong_answers_total"]) == (
        1,
        0.25,
        3,
        0,
    )
    assert right["certificate_expiry_timestamp_seconds"] == 1e9
    assert (wrong["success"], wrong["served_version"], wrong["wrong_answers_total"]) == (0, 4, 2)
    assert gone == wrong | {"seconds": 0.75}  # the last version, answer and certificate stay what they were


def test_a_port_that_is_taken_is_said_in_one_line() -> None:
    with Exposition(MODEL, "127.0.0.1", 0) as first, pytest.raises(ServerError, match="in use. Choose another"):
        Exposition(MODEL, "127.0.0.1", first.port)


def test_the_command_shows_what_it_sees_until_it_is_told_to_stop(server: Server, repository: Path) -> None:
    words = ["watch", MODEL, "--url", server.grpc_url, "--repository", str(repository), "--metrics-port", "0"]
    command = [sys.executable, "-m", "pipeline", *words, "--every-seconds", "0.2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        port = int(process.stderr.readline().removeprefix("http://127.0.0.1:").removesuffix("/metrics\n"))
        line = process.stderr.readline()
        metrics = scraped(port)
        os.kill(process.pid, signal.SIGTERM)
        said = process.stderr.read()
        assert process.wait(20) == 0
        assert process.stdout.read() == ""
    assert re.fullmatch(r"opinions: version \d answers as it was verified.\n", line)
    assert metrics["success"] == 1
    assert said == ""  # nothing changed, so nothing was said


def invoke(*words: object) -> Result:
    return CliRunner().invoke(main, ["watch", MODEL, *map(str, words)])


@pytest.mark.parametrize(
    ("address", "message"),
    [("0.0.0.0", "loopback only"), ("gpu1", "not an IP address")],  # noqa: S104
)
def test_metrics_stay_on_this_machine(
    repository: Path, address: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.serve.network.is_in_container", lambda: False)
    result = invoke("--repository", repository, "--metrics-address", address)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"pipeline: --metrics-address {address}: ")
    assert message in result.stderr


def test_without_prometheus_client_the_next_step_is_said(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    result = invoke("--repository", repository)
    assert result.exit_code == 2
    assert "pip install 'pipeline[watch]'" in result.stderr
