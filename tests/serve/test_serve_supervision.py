"""What the supervisor does about a server that hangs, dies again and again, or grows, and about damaged versions."""

import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

import pytest
import tritonclient.grpc as triton
from click.testing import CliRunner
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from pipeline.client.control import Control
from pipeline.commands import main
from pipeline.errors import ServerError
from pipeline.serve import Loaded, LoadFailed, Restarting, monitor, running
from pipeline.serve.process import ServerLost
from tests.serve.asking import answers, ask, column, eventually, held_bytes, last, stubs_of
from tests.serve.tiny_models import place, text_config, text_model


def test_a_model_that_refuses_twice_in_a_row_is_lost(words):
    with running(words) as server, Control(server.grpc_url) as control:
        health = monitor.Health(answered=0)
        health.check(control, "words")
        health.check(control, "nowhere")
        with pytest.raises(ServerLost, match="nowhere answers no more: Request for unknown model"):
            health.check(control, "nowhere")


def test_a_stub_that_hangs_is_lost_after_a_long_silence(words, monkeypatch):
    monkeypatch.setattr(monitor, "SILENCE_SECONDS", 1.0)
    monkeypatch.setattr(monitor, "CANARY_TIMEOUT_SECONDS", 0.5)
    with running(words) as server:
        os.kill(stubs_of(server.ready.pid)[0], signal.SIGSTOP)
        eventually(lambda: last(server, Restarting) and answers(server), 20)
        assert "Deadline Exceeded" in last(server, Restarting).reason


def test_a_server_with_too_much_to_do_is_not_taken_for_a_lost_one(words, monkeypatch):
    monkeypatch.setattr(monitor, "CANARY_SECONDS", 0.1)
    monkeypatch.setattr(monitor, "CANARY_TIMEOUT_SECONDS", 0.01)
    monkeypatch.setattr(monitor, "SILENCE_SECONDS", 1.0)
    texts = column(*[b"good film " * 2_000] * 16)
    with (
        running(words) as server,
        triton.InferenceServerClient(server.grpc_url) as client,
        ThreadPoolExecutor(8) as threads,
    ):
        begun = time.monotonic()
        while time.monotonic() - begun < 2:
            list(threads.map(lambda _: ask(client, "words", text=texts), range(16)))
        assert server.events == [server.ready]


def test_a_server_that_is_held_up_for_some_seconds_is_not_taken_for_a_lost_one(words):
    with running(words) as server:
        os.kill(server.ready.pid, signal.SIGSTOP)
        try:
            late = time.monotonic() + 9  # thrice what the canary waits
            eventually(lambda: time.monotonic() > late or len(server.events) > 1, 20)
        finally:
            os.kill(server.ready.pid, signal.SIGCONT)
        eventually(lambda: answers(server))
        assert server.events == [server.ready]


def test_a_server_that_hangs_is_lost(words, monkeypatch):
    monkeypatch.setattr(monitor, "STALL_SECONDS", 1.0)
    with running(words) as server:
        os.kill(server.ready.pid, signal.SIGSTOP)
        eventually(lambda: last(server, Restarting) and answers(server), 20)
        assert "Triton answers no more" in last(server, Restarting).reason


def test_a_damaged_version_that_is_not_production_matters_neither_at_the_start_nor_later(tmp_path):
    repository, content = tmp_path / "repository", text_model().SerializeToString()
    place(repository, production(1), content)
    place(repository, production(1), content[:500], version=2)
    with running(repository) as server:
        place(repository, production(1), b"", version=3)
        eventually(lambda: last(server, Loaded))
        assert server.events == [server.ready, Loaded("words", (1,))]
        assert server.ready.models == {"words": (1,)}
        assert answers(server)


def test_a_damaged_production_version_replaces_no_good_one_and_is_refused_in_one_line(tmp_path):
    repository, content = tmp_path / "repository", text_model().SerializeToString()
    place(repository, production(1), content)
    place(repository, production(1), content[:500], version=2)
    with running(repository) as server:
        promote(repository, 2)
        eventually(lambda: last(server, LoadFailed))
        assert last(server, LoadFailed).versions == (1,)
        assert answers(server)
        promote(repository, 1)
        eventually(lambda: server.events[-1] == Loaded("words", (1,)))
        promote(repository, 2)
    with (
        pytest.raises(ServerError, match=r"^[^\n]*words: cannot be served: [^\n]*/words/2/model\.onnx[^\n]*$"),
        running(repository),
    ):
        pass


def production(version: int) -> model_config_pb2.ModelConfig:
    """A configuration that serves one version, as `pipeline publish` writes it."""
    config = text_config("words")
    config.version_policy.specific.versions.append(version)
    return config


def promote(repository: Path, version: int) -> None:
    staged = repository.parent / "config.pbtxt"
    staged.write_text(text_format.MessageToString(production(version)))
    staged.rename(repository / "words" / "config.pbtxt")


def test_a_server_that_keeps_dying_is_started_after_longer_and_longer_pauses_and_then_given_up(words, monkeypatch):
    monkeypatch.setattr(import_module("pipeline.serve.supervise"), "QUICK_FAILURES", 2)

    def kill_until_given_up() -> None:
        with running(words) as server:
            for pauses in ([1.0], [1.0, 2.0]):
                pid = server.ready.pid
                os.kill(pid, signal.SIGKILL)
                eventually(lambda pid=pid: server.ready.pid != pid, 20)
                assert [event.pause_seconds for event in server.events if isinstance(event, Restarting)] == pauses
            os.kill(server.ready.pid, signal.SIGKILL)
            eventually(lambda: server.error)

    with pytest.raises(ServerError, match=r"^Triton was killed by SIGKILL\. Gave up after 3 failures in a row\.$"):
        kill_until_given_up()


def test_a_server_that_holds_too_much_memory_is_started_anew_once_it_has_answered(words):
    with running(words) as server:
        limit = held_bytes(server.ready.pid) + 60_000_000
    with (
        running(words, max_memory_bytes=limit) as server,
        triton.InferenceServerClient(server.grpc_url) as client,
    ):
        before = server.ready
        assert ask(client, "words", text=column(b"good " * 3_000_000))["valid"].tolist() == [[True]]
        eventually(lambda: server.ready.pid != before.pid and answers(server), 20)
        told = r"Triton holds [\d,]+ MB of memory, more than the [\d,]+ of --max-memory-mb"
        assert re.fullmatch(told, last(server, Restarting).reason)
        assert held_bytes(server.ready.pid) < limit


def test_less_memory_than_the_models_take_is_refused_at_once(words):
    ports = [f"--{service}-port=0" for service in ("http", "grpc", "metrics")]
    result = CliRunner().invoke(main, ["serve", str(words), *ports, "--max-memory-mb", "10"])
    assert result.exit_code == 1
    told = r"pipeline: Triton holds \d+ MB of memory, more than the 10 of --max-memory-mb\.\n"
    assert re.fullmatch(told, result.stderr), result.stderr
