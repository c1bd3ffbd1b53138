"""Starting, changing, breaking and stopping a server."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tritonclient.grpc as triton

from pipeline.serve import Loaded, LoadFailed, Ready, Restarting, monitor, running
from tests.serve.asking import (
    SHARED_MEMORY,
    answers,
    ask,
    column,
    eventually,
    is_alive,
    last,
    processor_seconds,
    serving,
    shared_memory,
    stubs_of,
)
from tests.serve.tiny_models import place, text_config, text_model

NO_PROCESS = 2**22 + 1  # beyond the largest number that Linux gives


def test_serving_does_not_depend_on_which_python_stands_first_on_the_path(words, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with serving(words) as (_, ready, _), triton.InferenceServerClient(ready["grpc"]) as client:
        assert ask(client, "words", text=column(b"good"))


@pytest.fixture
def _without_nohup():
    """Child processes end at a hang-up even when the tests themselves were started with `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("_without_nohup")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_server_with_exit_code_0_and_leaves_nothing(words, number):
    with serving(words, "--json") as (process, ready, ready_file):
        stubs = stubs_of(ready["pid"])
        assert stubs
        assert shared_memory(process.pid)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=30)
        assert process.returncode == 0, stderr
        assert json.loads(stdout)["grpc"] == ready["grpc"]
        assert "development" in stderr
        assert "2.51 (24.10)" in stderr
        assert not ready_file.exists()
        assert not [pid for pid in (ready["pid"], *stubs) if is_alive(pid)]
        assert not shared_memory(process.pid)
        assert not list(Path(tempfile.gettempdir()).glob(f"pipeline-{process.pid}-*"))


def test_a_server_started_with_nohup_outlives_its_terminal():
    code = (
        "import signal; from pipeline.commands.signals import stop_on_signals; signal.signal(signal.SIGHUP, {})\n"
        "with stop_on_signals(signal.SIGHUP) as stop: signal.raise_signal(signal.SIGHUP)\n"
        "raise SystemExit(stop.is_set())"
    )
    for before, is_stopped in (("signal.SIG_IGN", False), ("signal.SIG_DFL", True)):
        assert subprocess.run([sys.executable, "-c", code.format(before)], check=False).returncode == is_stopped


def test_ctrl_c_while_a_server_starts_leaves_no_server_behind(words):
    others = set(threading.enumerate())  # among them the server that other tests share

    def servers():
        return [thread for thread in set(threading.enumerate()) - others if thread.name == "pipeline-serve"]

    def press():
        eventually(servers)
        os.kill(os.getpid(), signal.SIGINT)

    finger = threading.Thread(target=press)
    finger.start()
    with pytest.raises(KeyboardInterrupt), running(words):
        pytest.fail("it was served")
    finger.join()
    eventually(lambda: not servers(), 60)


@pytest.mark.serial
def test_what_another_user_left_behind_is_left_to_them():
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    left_over = SHARED_MEMORY / f"pipeline-{NO_PROCESS}-00000000-region"
    sweep = "import os; from pipeline.serve.supervise import remove_left_overs; os.setuid({}); remove_left_overs()"
    left_over.touch()
    try:
        subprocess.run([sys.executable, "-c", sweep.format(65_534)], check=True)
        assert left_over.exists()
        subprocess.run([sys.executable, "-c", sweep.format(0)], check=True)
        assert not left_over.exists()
    finally:
        left_over.unlink(missing_ok=True)


def test_a_killed_supervisor_takes_the_server_with_it_and_the_next_one_cleans_up(words):
    with serving(words) as (process, ready, _):
        stubs = stubs_of(ready["pid"])
        process.kill()
        process.wait()
        eventually(lambda: not any(is_alive(pid) for pid in (ready["pid"], *stubs)))
    with running(words):
        assert not shared_memory(process.pid)
        assert not list(Path(tempfile.gettempdir()).glob(f"pipeline-{process.pid}-*"))


@pytest.mark.serial
def test_a_killed_stub_is_noticed_beside_a_living_one_and_all_answer_again_within_ten_seconds(tmp_path):
    config = text_config("words")
    config.instance_group[0].count = 2
    place(tmp_path / "repository", config, text_model().SerializeToString())
    with running(tmp_path / "repository") as server:
        killed, living = stubs_of(server.ready.pid)
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: last(server, Restarting) and server.events[-1] == server.ready and answers(server), 10)
        assert "backend process died" in last(server, Restarting).reason
        assert not is_alive(living)
        assert len(stubs_of(server.ready.pid)) == 2


@pytest.mark.serial
def test_a_killed_server_answers_again_within_ten_seconds_on_the_same_ports(words):
    others = shared_memory()
    with running(words) as server:
        before = server.ready
        os.kill(before.pid, signal.SIGKILL)
        eventually(lambda: server.ready.pid != before.pid and answers(server), 10)
        assert "killed by SIGKILL" in last(server, Restarting).reason
        assert (server.ready.grpc, server.ready.http) == (before.grpc, before.http)
    assert shared_memory() == others


def test_a_request_in_flight_is_answered_before_the_server_ends(words):
    with serving(words) as (process, ready, _), triton.InferenceServerClient(ready["grpc"]) as client:
        (stub,) = stubs_of(ready["pid"])
        idle = processor_seconds(stub)
        with ThreadPoolExecutor(1) as thread:
            answer = thread.submit(ask, client, "words", text=column(b"good " * 1_500_000))
            eventually(lambda: processor_seconds(stub) > idle + 0.2)
            process.terminate()
            assert not answer.done()
            assert answer.result(timeout=20)["valid"].tolist() == [[True]]
        assert process.wait(timeout=30) == 0


def test_a_version_published_meanwhile_goes_into_service_without_a_restart(words):
    with running(words) as server, triton.InferenceServerClient(server.grpc_url) as client:
        before = ask(client, "words", text=column(b"good"))
        place(words, text_config("words"), text_model(seed=1).SerializeToString(), version=2)
        eventually(lambda: last(server, Loaded))
        assert last(server, Loaded) == Loaded("words", (2,))
        after = ask(client, "words", text=column(b"good"))
        assert before["probabilities"].tolist() != after["probabilities"].tolist()
        place(words, text_config("more"), text_model().SerializeToString())
        eventually(lambda: last(server, Loaded) == Loaded("more", (1,)))
        assert ask(client, "more", text=column(b"good"))["probabilities"].tolist() == before["probabilities"].tolist()
        assert not last(server, Restarting)


def test_the_ready_file_and_the_lines_of_json_tell_which_versions_are_live(words, tmp_path):
    with serving(words, "--json") as (process, ready, ready_file):
        place(words, text_config("words"), text_model(seed=1).SerializeToString(), version=2)
        eventually(lambda: json.loads(ready_file.read_text())["models"] == {"words": [2]})
        place(words, text_config("more"), text_model().SerializeToString())
        eventually(lambda: "more" in json.loads(ready_file.read_text())["models"])
        (words / "more").rename(tmp_path / "gone")
        eventually(lambda: "more" not in json.loads(ready_file.read_text())["models"])
        process.terminate()
        records = [json.loads(line) for line in process.communicate(timeout=30)[0].splitlines()]
    models = [{"words": [1]}, {"words": [2]}, {"words": [2], "more": [1]}, {"words": [2]}]
    assert records == [{**ready, "models": served} for served in models]


def test_a_ready_file_of_a_server_that_was_killed_is_gone_before_the_next_one_answers(words, tmp_path):
    ready_file = tmp_path / "ready.json"
    ready_file.write_text('{"pid": 1}')
    with serving(words):
        eventually(lambda: not ready_file.exists())
        eventually(ready_file.exists)


def test_a_ready_file_whose_folder_went_away_does_not_disturb_the_end(tmp_path):
    place(tmp_path / "here" / "repository", text_config("words"), text_model().SerializeToString())
    with serving(tmp_path / "here" / "repository") as (process, _, _):
        (tmp_path / "here").rename(tmp_path / "there")
        (tmp_path / "here").touch()
        process.terminate()
        stderr = process.communicate(timeout=30)[1]
        assert process.returncode == 0, stderr
        assert "Traceback" not in stderr


def test_a_broken_new_version_leaves_the_old_one_and_the_server_in_service(words):
    with running(words) as server, triton.InferenceServerClient(server.grpc_url) as client:
        before = ask(client, "words", text=column(b"good"))
        place(words, text_config("words"), text_model().SerializeToString()[:500], version=2)
        eventually(lambda: last(server, LoadFailed))
        failed = last(server, LoadFailed)
        assert failed.versions == (1,)
        assert "model.onnx" in failed.reason
        assert "\n" not in failed.reason
        assert ask(client, "words", text=column(b"good"))["probabilities"].tolist() == before["probabilities"].tolist()
        assert client.is_server_ready()
        place(words, text_config("words"), text_model(seed=3).SerializeToString(), version=3)
        eventually(lambda: last(server, Loaded) == Loaded("words", (3,)))
        assert not last(server, Restarting)


def test_a_version_that_is_being_written_is_not_looked_at(words):
    (words / "words" / ".staging-2").mkdir()
    (words / ".staging-words").mkdir()
    (words / ".staging-words" / "config.pbtxt").write_text("half a configur")
    with running(words) as server:
        assert server.ready.models == {"words": (1,)}
        assert not [event for event in server.events if not isinstance(event, Ready)]


def test_a_repository_out_of_reach_leaves_its_models_in_service(words, tmp_path):
    with running(words) as server:
        words.rename(tmp_path / "away")
        begun = time.monotonic()
        eventually(lambda: time.monotonic() - begun > 2 * monitor.SCAN_SECONDS)
        assert answers(server)
        (tmp_path / "away").rename(words)
        place(words, text_config("more"), text_model().SerializeToString())
        eventually(lambda: last(server, Loaded) == Loaded("more", (1,)))
        assert [type(event) for event in server.events] == [Ready, Loaded]


def test_a_model_taken_away_is_taken_out_of_service(words, tmp_path):
    place(words, text_config("other"), text_model().SerializeToString())
    with running(words) as server:
        (words / "other").rename(tmp_path / "gone")
        eventually(lambda: last(server, Loaded))
        assert last(server, Loaded) == Loaded("other", ())
        assert answers(server)


def test_only_the_models_that_were_asked_for_are_served(words):
    place(words, text_config("other"), text_model().SerializeToString())
    with running(words, models=("other",)) as server:
        assert server.ready.models == {"other": (1,)}
