import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from torch.distributed import TCPStore

from pipeline import recipe
from pipeline.commands import main
from pipeline.errors import DataError, PipelineError, RunError, UsageError
from pipeline.evaluate import evaluate
from pipeline.files import sha256_of
from pipeline.run_directory import RunDirectory
from pipeline.train import Choices, Epoch, Step, resume, train
from pipeline.train.processes import joined
from pipeline.train.stage import CHECKPOINT
from tests.conftest import QUICK_TEXT

pytestmark = pytest.mark.long

SEVERAL_STATES = (
    *QUICK_TEXT,
    "train.epochs=20",
    "train.patience=20",
    "train.batch_size=8",
    "train.accumulate=2",
    "train.ema_decay=0.99",
    "train.schedule=plateau",
    "model.norm=batch",
    "augment.word_dropout=0.1",
    "augment.typos=0.1",
    "adversarial.method=fgm",
)


def interrupted_at(epoch: int, step: int, data: Path, runs: Path, settings: tuple[str, ...]) -> RunDirectory:
    def interrupt(event: Step | Epoch) -> None:
        if isinstance(event, Step) and (event.epoch, event.step) == (epoch, step):
            raise KeyboardInterrupt

    return train(data, recipe.load(None, settings), runs, Choices(checkpoint_seconds=0, progress=interrupt))


def test_a_training_killed_twenty_times_ends_in_the_same_bits(text_data: Path, tmp_path: Path) -> None:
    whole = train(text_data, recipe.load(None, SEVERAL_STATES), tmp_path / "whole")
    command = [sys.executable, "-m", "tests.killed_training", text_data, tmp_path / "killed", "20", "0"]
    done = subprocess.run([*command, *SEVERAL_STATES], capture_output=True, text=True, check=True)
    killed, resumed = map(int, done.stdout.split())
    assert killed == 20
    assert resumed >= 15, "most kills came after the first checkpoint"
    (run,) = (tmp_path / "killed").iterdir()
    assert sha256_of(run / "weights.safetensors") == sha256_of(whole / "weights.safetensors")
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 20
    assert {path.name for path in run.iterdir()} == {path.name for path in whole.path.iterdir()}


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "sgd"])
@pytest.mark.parametrize("average", ["train.ema_decay=0.9", "train.swa_from=2"])
def test_an_interrupted_training_ends_in_the_same_bits(
    optimizer: str, average: str, text_data: Path, tmp_path: Path
) -> None:
    settings = (*QUICK_TEXT, f"train.optimizer={optimizer}", average, "train.schedule=cosine", "train.warmup=0.1")
    whole = train(text_data, recipe.load(None, settings), tmp_path)
    run = interrupted_at(2, 2, text_data, tmp_path, settings)
    assert run.info["interrupted"] is True
    assert evaluate(run)["test"]["rows"] > 0
    resume(run)
    assert run.info["interrupted"] is False
    assert sha256_of(run / "weights.safetensors") == sha256_of(whole / "weights.safetensors")
    assert not (run / CHECKPOINT).exists()


def test_the_command_line_goes_on_with_an_interrupted_run(text_data: Path, tmp_path: Path) -> None:
    run = interrupted_at(2, 1, text_data, tmp_path, QUICK_TEXT)
    result = CliRunner().invoke(main, ["train", "--resume", str(run.path)])
    assert result.exit_code == 0
    assert result.stdout.strip() == str(run.path)
    again = CliRunner().invoke(main, ["train", "--resume", str(run.path)])
    assert again.exit_code == 2
    assert "training is finished; there is nothing to resume" in again.stderr


def test_a_resumed_run_keeps_its_recipe(text_data: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["train", "--resume", str(tmp_path), "--set", "train.epochs=9"])
    assert result.exit_code == 2
    assert "goes on with the run's own recipe" in result.stderr


def test_a_finished_run_is_not_resumed(trained_run: RunDirectory) -> None:
    with pytest.raises(UsageError, match="training is finished"):
        resume(trained_run)


def test_a_damaged_checkpoint_is_named(text_data: Path, tmp_path: Path) -> None:
    run = interrupted_at(2, 1, text_data, tmp_path, QUICK_TEXT)
    content = (run / CHECKPOINT).read_bytes()
    (run / CHECKPOINT).write_bytes(content[: len(content) // 2])
    with pytest.raises(RunError, match=f"{CHECKPOINT}: not a checkpoint of this run"):
        resume(run)


def test_a_run_is_not_resumed_on_other_data(text_data: Path, feature_data: Path, tmp_path: Path) -> None:
    run = interrupted_at(2, 1, text_data, tmp_path, QUICK_TEXT)
    with pytest.raises(DataError, match="not the data that .* was trained on"):
        resume(run, data=feature_data)


def test_a_full_disk_ends_in_one_line_and_leaves_the_last_checkpoint_whole(text_data: Path, tmp_path: Path) -> None:
    """The limit on a file's size stands for the disk: writing fails half way through the checkpoint's bytes."""
    settings = (*SEVERAL_STATES, "train.epochs=3")
    run = interrupted_at(1, 3, text_data, tmp_path, settings)
    before = (run / CHECKPOINT).read_bytes()
    program = (
        "import resource, signal, sys; from pipeline.commands import main;"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before) // 2}, {len(before) // 2}));"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"main(['train', '--resume', {str(run.path)!r}, '--checkpoint-seconds', '0'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == PipelineError.exit_code
    assert "checkpoint.safetensors: cannot be written: File too large. The earlier file" in done.stderr
    assert "Traceback" not in done.stderr
    assert (run / CHECKPOINT).read_bytes() == before
    resume(run)
    whole = train(text_data, recipe.load(None, settings), tmp_path)
    assert sha256_of(run / "weights.safetensors") == sha256_of(whole / "weights.safetensors")


def torchrun(*arguments: object) -> list[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return [*launcher, "-m", "pipeline", "train", *map(str, arguments)]


def epochs(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def options(settings: tuple[str, ...]) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def test_two_processes_reach_the_figures_of_one(text_data: Path, tmp_path: Path) -> None:
    settings = (*QUICK_TEXT, "train.precision=fp32", "model.dropout=0", "train.batch_size=30")
    command = torchrun("--data", text_data, "--runs", tmp_path / "two", *options(settings))
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == [str(tmp_path / "two" / "opinions-001")], "one process alone prints"
    assert done.stderr.count("epoch 1:") == 1
    alone = train(text_data, recipe.load(None, settings), tmp_path / "one")
    for ours, theirs in zip(epochs(tmp_path / "two" / "opinions-001"), epochs(alone.path), strict=True):
        for name in ("train_loss", "validation_loss", "validation_accuracy", "gradient_norm"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-3), name


def test_only_the_first_process_writes_when_a_run_is_resumed(text_data: Path, tmp_path: Path) -> None:
    """The second of two comes to the place where it waits for the first, and has touched nothing."""
    run = interrupted_at(2, 1, text_data, tmp_path, QUICK_TEXT)
    (run / ".left.tmp").touch()
    before = {path.name: path.read_bytes() for path in run.path.iterdir()}
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    place = {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    nobody, deadline = store.num_keys(), time.monotonic() + 60
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline", "train", "--resume", run.path], env={**os.environ, **place}
    ) as process:
        try:
            while store.num_keys() == nobody and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            assert store.num_keys() > nobody
            assert {path.name: path.read_bytes() for path in run.path.iterdir()} == before
        finally:
            process.kill()


def test_an_environment_that_does_not_fit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UsageError, match="WORLD_SIZE=2 and no RANK"), joined("cpu"):
        pass
    monkeypatch.setenv("RANK", "99")
    monkeypatch.setenv("LOCAL_RANK", "99")
    with pytest.raises(UsageError, match="process 100 of this machine has no GPU of its own"), joined("cuda"):
        pass


def test_a_lost_process_ends_the_others_and_the_run_can_go_on(text_data: Path, tmp_path: Path) -> None:
    settings = (*QUICK_TEXT, "train.epochs=2000", "train.patience=2000")
    command = torchrun("--data", text_data, "--runs", tmp_path, "--checkpoint-seconds", "0", *options(settings))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("epoch 3:"):
                break
        children = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=True
        ).stdout.split()
        assert len(children) == 2
        subprocess.run(["kill", "-9", children[1]], check=True)
        rest = process.stderr.read()
    assert process.returncode != 0
    assert "Traceback" not in rest.partition("ChildFailedError")[0].partition("torch/distributed")[0]
    (path,) = tmp_path.iterdir()
    assert (path / CHECKPOINT).exists()
    short = (path / "recipe.toml").read_text().replace("epochs = 2000", "epochs = 5", 1)
    (path / "recipe.toml").write_text(short)
    run = resume(RunDirectory.open(path))
    assert evaluate(run)["test"]["rows"] > 0
