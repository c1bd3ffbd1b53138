"""Train one run in children that are killed with SIGKILL at random moments until one of them ends by itself.

    python -m tests.killed_training DATA RUNS KILLS SEED SETTING...

A child is a fork of this process, which has imported everything and computed nothing. Every fifth is killed at any
moment of its beginning, the others soon after a checkpoint of their own: on a slow machine too, kills strike training
and writing. Prints the number of kills and of checkpoints that were resumed.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

from pipeline import recipe
from pipeline.run_directory import RunDirectory
from pipeline.train import Choices, resume, train

EAGER = Choices(checkpoint_seconds=0.0)


def child(data: Path, runs: Path, settings: tuple[str, ...]) -> None:
    paths = sorted(path for path in runs.glob("*") if (path / "run.json").exists())
    if paths:
        resume(RunDirectory.open(paths[-1]), EAGER)
    else:
        train(data, recipe.load(None, settings), runs, EAGER)


def newest(runs: Path) -> list[int]:
    return [path.stat().st_mtime_ns for path in runs.glob("*/checkpoint.safetensors")]


def main(data: Path, runs: Path, kills: int, seed: int, settings: tuple[str, ...]) -> None:
    moments = random.Random(seed)  # noqa: S311 - no secret
    killed = resumed = 0
    while True:
        resumed += bool(list(runs.glob("*/checkpoint.safetensors")))
        pid = os.fork()
        if not pid:
            child(data, runs, settings)
            os._exit(0)
        before, is_early = newest(runs), killed % 5 == 0
        deadline = time.monotonic() + (moments.uniform(0.1, 1.5) if is_early and killed < kills else 300)
        is_waiting, status = not is_early and killed < kills, 0
        while not (done := os.waitpid(pid, os.WNOHANG)[0]) and time.monotonic() < deadline:
            if is_waiting and newest(runs) != before:
                is_waiting, deadline = False, time.monotonic() + moments.uniform(0, 0.2)
            time.sleep(0.001)
        if not done:
            os.kill(pid, signal.SIGKILL)
            status = os.waitpid(pid, 0)[1]
            killed += 1
        if done or not os.WIFSIGNALED(status):
            break
    sys.stdout.write(f"{killed} {resumed}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), tuple(sys.argv[5:]))
