"""Engine: Ray Data, on this machine, or on the cluster that $RAY_ADDRESS names and that sees the same files."""

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any

from pipeline import errors
from pipeline.errors import PipelineError
from pipeline.score.shard import Job, Scorer, Shard

OBJECT_STORE_BYTES = 100 * 2**20  # only shards go through it
ATTEMPTS = 2  # a busy machine misses the 15 seconds that Ray gives its agent to start (ray-project/ray#65983)


class Actor:
    """What Ray keeps on a worker: one session."""

    def __init__(self, job: Job, shards: Sequence[Shard]) -> None:
        self._job = job
        self._shards = shards
        self._scorer: Scorer | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Score a shard; an error of ours travels as text, which Ray neither wraps nor tries again."""
        try:
            self._scorer = self._scorer or Scorer(self._job)
            self._scorer(self._shards[row["place"]])
        except PipelineError as error:
            return {**row, "error": type(error).__name__, "message": str(error)}
        return {**row, "error": "", "message": ""}


def run(job: Job, shards: Sequence[Shard], workers: int) -> Iterator[Shard]:
    """Yield each shard when it is done.

    Raises:
        PipelineError: Ray is not installed, does not start or fails, or what an actor raised.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    if not os.environ.get("RAY_ADDRESS"):
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # else 127.0.0.1 becomes the address on the network
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise PipelineError("Ray is not installed. Install it with pip install 'pipeline[ray]'.") from error
    with _cluster(workers):
        ray.data.DataContext.get_current().enable_progress_bars = False
        places = ray.data.from_items(
            [{"place": place} for place in range(len(shards))], override_num_blocks=len(shards)
        )
        actors: Any = Actor  # the annotation of `map` knows functions only
        pool = ray.data.ActorPoolStrategy(size=min(workers, len(shards)))
        try:
            for row in places.map(actors, fn_constructor_args=(job, shards), compute=pool, num_cpus=1).iter_rows():
                if row["error"]:
                    raise getattr(errors, row["error"])(row["message"])
                yield shards[row["place"]]
        except ray.exceptions.RayError as error:
            raise PipelineError(
                f"Ray fails: {_last_line(error)} What is done is kept: the same command goes on."
            ) from error


@contextlib.contextmanager
def _cluster(workers: int) -> Iterator[None]:
    import ray

    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    quiet: dict[str, Any] = {"configure_logging": False, "log_to_driver": False}
    here: dict[str, Any] = {
        "num_cpus": workers + 1,
        "object_store_memory": OBJECT_STORE_BYTES,
        "include_dashboard": False,
    }
    for attempt in range(ATTEMPTS):
        try:
            ray.init(**quiet, **({} if os.environ.get("RAY_ADDRESS") else here))
            break
        except Exception as error:  # it raises a plain one
            ray.shutdown()
            if attempt == ATTEMPTS - 1:
                raise PipelineError(f"Ray does not start: {_last_line(error)}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
