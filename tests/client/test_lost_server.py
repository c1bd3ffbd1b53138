"""A server that stops, is killed, or changes its versions while it is asked: the client's retries bridge it."""

import os
import signal
import threading
from collections import Counter
from contextlib import ExitStack

import pytest

from pipeline.client import Client
from pipeline.errors import PipelineError
from pipeline.serve import running
from pipeline.serve.layout import Options
from pipeline.serve.network import choose_ports
from tests.client.conftest import triton
from tests.client.test_retries import wait_for
from tests.serve.tiny_models import place, text_config, text_model

PATIENT = {"retries": 30, "timeout_seconds": 60.0, "batch_size": 1, "in_flight": 2}


@pytest.fixture
def repository(tmp_path):
    place(tmp_path / "model_repository", text_config("tiny"), text_model().SerializeToString())
    return tmp_path / "model_repository"


class Callers:
    """Threads that ask until they are told to stop, each with its own client."""

    def __init__(self, url, count):
        self.labels, self.failures, self.retries = Counter(), [], 0
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._ask, args=(url,)) for _ in range(count)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def answered(self):
        return sum(self.labels.values())

    def _ask(self, url):
        with Client(url, "tiny", **PATIENT) as client:
            while not self._stop.is_set():
                try:
                    (prediction,) = client.classify(["a good film"])
                except PipelineError as error:
                    self.failures.append(error)
                    return
                with self._lock:
                    self.labels[prediction.label] += 1
            with self._lock:
                self.retries += client.counters.retries


def test_a_server_that_is_killed_costs_its_callers_time_and_no_answer(repository):
    with running(repository) as server, Callers(server.grpc_url, 4) as callers:
        wait_for(lambda: callers.answered() > 50)
        os.kill(server.ready.pid, signal.SIGKILL)
        wait_for(lambda: len([event for event in server.events if type(event).__name__ == "Ready"]) == 2)
        before = callers.answered()
        wait_for(lambda: callers.answered() > before + 50)
    assert callers.failures == []
    assert len(callers.labels) == 1
    assert callers.retries > 0


def test_a_server_that_drains_and_starts_again_costs_its_callers_no_answer(repository, tmp_path):
    options = choose_ports(Options(repository, http_port=0, grpc_port=0, metrics_port=0, models=("tiny",)))
    url = f"127.0.0.1:{options.grpc_port}"
    with ExitStack() as last, Callers(url, 4) as callers:  # they ask before there is a server, too
        with triton(options, tmp_path / "first"):
            wait_for(lambda: callers.answered() > 50)
        before = callers.answered()
        last.enter_context(triton(options, tmp_path / "second"))
        wait_for(lambda: callers.answered() > before + 50)
    assert callers.failures == []
    assert callers.retries > 0


def test_a_version_that_changes_costs_its_callers_no_answer(repository):
    new = text_model(seed=1).SerializeToString()
    with running(repository) as server, Callers(server.grpc_url, 4) as callers:
        wait_for(lambda: callers.answered() > 50)
        (old,) = callers.labels
        place(repository, text_config("tiny"), new, version=2)
        wait_for(lambda: callers.answered() - callers.labels[old] > 50)
    assert callers.failures == []
