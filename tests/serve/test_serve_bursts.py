"""A burst is answered in one go: Triton's batcher can sleep half a second beside the queue of a single instance."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.client import Client
from pipeline.serve import running

CALLERS = 16
BURSTS = 40
SLEEP_SECONDS = 0.4  # of the batcher, which wakes after 0.5 s; a burst takes about 0.02 s


@pytest.mark.serial
def test_a_burst_at_a_published_model_does_not_wait_for_the_batcher_to_wake(published_repository: Path) -> None:
    with (
        running(published_repository, models=("opinions",)) as server,
        Client(server.grpc_url, "opinions") as client,
        ThreadPoolExecutor(CALLERS) as callers,
    ):

        def burst(_: int) -> float:
            begun = time.monotonic()
            list(callers.map(lambda _: client.classify(["the film is lovely"]), range(CALLERS)))
            return time.monotonic() - begun

        slow = [seconds for seconds in map(burst, range(BURSTS)) if seconds > SLEEP_SECONDS]
    assert len(slow) <= BURSTS // 10, f"{len(slow)} of {BURSTS} bursts took {min(slow):.2f} s and more"
