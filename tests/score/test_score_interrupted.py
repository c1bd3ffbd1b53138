"""Whatever ends a scoring, the same command goes on, and every row is there once."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from pipeline.commands import main
from pipeline.errors import DataError, PipelineError, RunError, UsageError
from pipeline.run_directory import RunDirectory
from pipeline.score import score
from pipeline.score.ledger import FILE
from tests.score.conftest import opinions

NAMES = ("a.parquet", "b.csv", "c.jsonl")


def start(*words: object, **settings: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pipeline", "score", *map(str, words)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, **settings},
    )


def done_shards(to: Path) -> int:
    return len(list(to.glob(".parts/[0-9]*.json")))


def wait_for_shards(process: subprocess.Popen[str], to: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while done_shards(to) < count and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def contents(to: Path) -> dict[str, bytes]:
    return {str(path.relative_to(to)): path.read_bytes() for path in to.rglob("*") if path.is_file()}


@pytest.fixture
def inputs(write) -> Path:
    for seed, name in enumerate(NAMES):
        path = write(name, opinions(400, seed), row_group=150)
    return path.parent


@pytest.fixture
def undisturbed(verified_run: RunDirectory, inputs: Path, tmp_path: Path, here: None) -> dict[str, bytes]:
    score(verified_run.path, [inputs], tmp_path / "undisturbed", shard_rows=40)
    return contents(tmp_path / "undisturbed")


def test_killed_at_any_moment_it_goes_on_and_every_row_is_there_once(
    verified_run: RunDirectory, inputs: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    to = tmp_path / "to"
    words = (verified_run.path, inputs, "--to", to, "--shard-rows", 40, "--workers", 2, "--json")
    for more in (1, 7, 11):
        process = start(*words)
        before = done_shards(to)
        wait_for_shards(process, to, before + more)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert done_shards(to) >= before + more
        assert not (to / FILE).is_file() or "counts" not in json.loads((to / FILE).read_text())
    output, errors = start(*words).communicate(timeout=120)
    assert errors == ""
    record = json.loads(output)
    assert record["counts"]["rows"] == 1200
    assert 0 < record["rows_now"] < 1200
    assert contents(to) == undisturbed
    assert pq.read_table(to / "a.parquet").column("id").to_pylist() == list(range(400))


def test_cut_short_at_any_rename_it_goes_on(
    verified_run: RunDirectory, inputs: Path, tmp_path: Path, here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shard takes two renames: cut short after two or three of them, it gets on, and dies at either."""
    score(verified_run.path, [inputs], tmp_path / "undisturbed", shard_rows=200)
    to, replace = tmp_path / "to", Path.replace
    left = 0

    def replace_or_die(path: Path, target: Path) -> Path:
        nonlocal left
        left -= to in target.parents
        if left < 0:
            raise KeyboardInterrupt
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", replace_or_die)
    for cuts in range(50):
        left = 2 + cuts % 2
        try:
            score(verified_run.path, [inputs], to, shard_rows=200)
            break
        except KeyboardInterrupt:
            pass
    assert cuts >= 7
    assert contents(to) == contents(tmp_path / "undisturbed")


def workers(process: subprocess.Popen[str]) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.mark.parametrize("seconds", [0, 0.1, 0.3])
def test_ctrl_c_is_one_line_at_any_moment(
    verified_run: RunDirectory, inputs: Path, tmp_path: Path, seconds: float
) -> None:
    """A terminal sends it to the workers, too, which may be importing still."""
    process = start(verified_run.path, inputs, "--to", tmp_path / "to", "--shard-rows", 1, "--workers", 2)
    deadline = time.monotonic() + 120
    while not workers(process):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors.strip()) == (1, "", "Aborted!")


def test_a_killed_worker_is_one_line_and_nothing_is_lost(verified_run: RunDirectory, inputs: Path, tmp_path) -> None:
    to = tmp_path / "to"
    words = (verified_run.path, inputs, "--to", to, "--shard-rows", 5, "--workers", 1)
    process = start(*words)
    wait_for_shards(process, to, 3)
    (worker,) = workers(process)
    os.kill(worker, signal.SIGKILL)
    output, errors = process.communicate(timeout=120)
    assert (process.returncode, output) == (1, "")
    assert errors == (
        "pipeline: a worker was killed, perhaps for want of memory. What is done is kept: the same command goes on; "
        "use fewer --workers.\n"
    )
    assert done_shards(to) >= 3


def test_workers_end_with_a_killed_parent(verified_run: RunDirectory, inputs: Path, tmp_path: Path) -> None:
    process = start(verified_run.path, inputs, "--to", tmp_path / "to", "--shard-rows", 1, "--workers", 2)
    wait_for_shards(process, tmp_path / "to", 2)
    process.kill()
    process.communicate(timeout=60)  # returns when the last worker has closed its end of the pipes
    done = done_shards(tmp_path / "to")
    assert done < 1200
    assert process.returncode == -signal.SIGKILL


def test_finished_it_does_nothing_more(verified_run: RunDirectory, inputs: Path, tmp_path: Path, here: None) -> None:
    first = score(verified_run.path, [inputs], tmp_path / "to")
    assert not (tmp_path / "to" / ".parts").exists()
    second = score(verified_run.path, [inputs], tmp_path / "to")
    assert (second.counts, second.rows_now) == (first.counts, 0)
    assert sum(first.counts.labels.values()) == 1200


def test_a_scored_file_that_is_removed_meanwhile_is_scored_again(
    verified_run: RunDirectory, inputs: Path, undisturbed: dict[str, bytes], tmp_path: Path, here: None
) -> None:
    to = tmp_path / "to"

    def stop(done: int, rows: int) -> None:
        if (to / "a.parquet").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(verified_run.path, [inputs], to, shard_rows=40, progress=stop)
    (to / "a.parquet").unlink()
    score(verified_run.path, [inputs], to, shard_rows=40)
    assert contents(to) == undisturbed


def test_a_scored_file_that_is_removed_in_the_end_is_missed(
    verified_run: RunDirectory, inputs: Path, tmp_path: Path, here: None
) -> None:
    score(verified_run.path, [inputs], tmp_path / "to")
    (tmp_path / "to" / "b.csv").unlink()
    with pytest.raises(RunError, match=r"b\.csv: was scored, and is gone\. Score into another folder\."):
        score(verified_run.path, [inputs], tmp_path / "to")


def test_a_machine_without_room_for_processes_is_not_taken_for_a_second_scoring(
    verified_run: RunDirectory, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(SpawnProcess, "start", refuse)
    with pytest.raises(PipelineError, match="no more processes can be started: Resource temporarily unavailable"):
        score(verified_run.path, [inputs], tmp_path / "to", workers=1)


def test_another_question_is_refused(verified_run: RunDirectory, inputs: Path, tmp_path: Path, here: None) -> None:
    to = tmp_path / "to"
    score(verified_run.path, [inputs], to)
    again = "Give the same command again, or another --to."
    with pytest.raises(UsageError, match=f"begun with another prefix: '', now 'my_'. {again}"):
        score(verified_run.path, [inputs], to, prefix="my_")
    record = json.loads((to / FILE).read_text())
    (to / FILE).write_text(json.dumps({**record, "model": "0" * 64}))
    with pytest.raises(UsageError, match=f"begun with another model: '000+', now '[0-9a-f]+'. {again}"):
        score(verified_run.path, [inputs], to)


@pytest.mark.parametrize("change", ["touched", "removed", "added"])
def test_changed_inputs_are_refused(
    verified_run: RunDirectory, inputs: Path, tmp_path: Path, here: None, change
) -> None:
    score(verified_run.path, [inputs], tmp_path / "to")
    if change == "touched":
        os.utime(inputs / "b.csv", ns=(1, 1))
    elif change == "removed":
        (inputs / "b.csv").unlink()
    else:
        (inputs / "d.csv").write_text("text\n")
    with pytest.raises(UsageError, match=r"begun with other inputs: [bd]\.csv"):
        score(verified_run.path, [inputs], tmp_path / "to")


def test_an_input_that_changes_meanwhile_is_refused(
    verified_run: RunDirectory, inputs: Path, tmp_path: Path, here
) -> None:
    def touch(done: int, rows: int) -> None:
        if done:
            os.utime(inputs / "c.jsonl", ns=(1, 1))

    with pytest.raises(DataError, match=r"c\.jsonl: was changed since its scoring began"):
        score(verified_run.path, [inputs], tmp_path / "to", progress=touch)
    assert not (tmp_path / "to" / "c.jsonl").exists()


def test_two_at_once_are_refused(verified_run: RunDirectory, inputs: Path, tmp_path: Path, here: None) -> None:
    def second(done: int, rows: int) -> None:
        with pytest.raises(PipelineError, match="another `pipeline score` writes there now"):
            score(verified_run.path, [inputs], tmp_path / "to")

    score(verified_run.path, [inputs], tmp_path / "to", progress=second)


def test_a_file_that_is_there_is_never_overwritten(verified_run: RunDirectory, inputs: Path, tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "b.csv").write_text("precious")
    with pytest.raises(UsageError, match=r"b\.csv: exists, and is not of this scoring"):
        score(verified_run.path, [inputs], tmp_path / "to")
    assert contents(tmp_path / "to") == {"b.csv": b"precious"}


@pytest.mark.parametrize("name", NAMES)
def test_a_full_disk_is_one_line_and_it_goes_on_when_there_is_room(
    verified_run: RunDirectory, inputs: Path, undisturbed: dict[str, bytes], tmp_path: Path, name: str
) -> None:
    to = tmp_path / "to"
    to.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(to)], check=False).returncode:
        pytest.skip("this sandbox does not mount")
    try:
        words = ["score", *map(str, (verified_run.path, inputs / name, "--to", to, "--shard-rows", 40))]
        result = CliRunner().invoke(main, words)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("pipeline: ")
        assert "cannot be written: " in result.stderr
        assert "No space left on device" in result.stderr
        assert len(result.stderr.splitlines()) == 1
        subprocess.run(["mount", "-o", "remount,size=8m", str(to)], check=True)
        assert CliRunner().invoke(main, words).exit_code == 0
        assert (to / name).read_bytes() == undisturbed[name]
    finally:
        subprocess.run(["umount", str(to)], check=True)
