"""Engine: processes of this machine, each with one shard at a time."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from itertools import islice
from multiprocessing import Pipe, parent_process
from multiprocessing.connection import Connection, wait
from threading import Thread

from pipeline.errors import PipelineError
from pipeline.score.shard import Job, Scorer, Shard
from pipeline.spawn import spawned


def run(job: Job, shards: Sequence[Shard], workers: int) -> Iterator[Shard]:
    """Yield each shard when it is done.

    Raises:
        PipelineError: a worker cannot be started, or died, or what it raised.
    """
    waiting = iter(shards)
    with contextlib.ExitStack() as stack:
        busy = {}
        for shard in islice(waiting, workers):
            connection = stack.enter_context(_worker(job))
            connection.send(shard)
            busy[connection] = shard
        while busy:
            ready = wait(list(busy))
            for connection in [connection for connection in busy if connection in ready]:
                done = busy.pop(connection)
                try:
                    outcome = connection.recv()
                    if (following := next(waiting, None)) is not None:
                        connection.send(following)
                        busy[connection] = following
                except (EOFError, ConnectionError) as error:
                    raise PipelineError(
                        "a worker was killed, perhaps for want of memory. What is done is kept: the same command goes "
                        "on; use fewer --workers."
                    ) from error
                if outcome is not None:
                    raise outcome
                yield done


@contextlib.contextmanager
def _worker(job: Job) -> "Iterator[Connection[Shard, Exception | None]]":
    ours, its = Pipe()
    try:
        process = spawned(_serve, its, job)
    except OSError as error:  # of a container's limit, for one
        raise PipelineError(
            f"no more processes can be started: {error.strerror}. The same command goes on; use fewer --workers."
        ) from error
    its.close()
    try:
        yield ours
    finally:
        process.terminate()
        process.join()
        ours.close()


def _serve(connection: "Connection[Exception | None, Shard]", job: Job) -> None:
    """Score the shards that come, in a worker; it ends with its parent, however that ends."""
    if parent := parent_process():
        Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    scorer = None
    while True:
        shard = connection.recv()
        outcome: Exception | None = None
        try:
            scorer = scorer or Scorer(job)
            scorer(shard)
        except MemoryError:
            outcome = PipelineError(f"{shard.input.path}: no memory. The same command goes on; use fewer --workers.")
        except Exception as error:  # noqa: BLE001  raised again where the command runs
            outcome = error
        connection.send(outcome)


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
