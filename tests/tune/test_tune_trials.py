"""Trials with the embedded Triton: what is measured, what is refused, and one whole tuning, short as it is."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.bench.serving import read_texts
from pipeline.commands import main
from pipeline.errors import CheckFailed, UsageError
from pipeline.publish import publish
from pipeline.repository.config import loads
from pipeline.repository.goldens import Goldens
from pipeline.run_directory import RunDirectory
from pipeline.serve import running
from pipeline.serve.running import Server
from pipeline.tune import comparison
from pipeline.tune.served import MODEL, Bounds, Task, Unfit, check, expected_labels
from pipeline.tune.space import Candidate
from pipeline.tune.stage import space_of, tune
from pipeline.tune.trial import loaded, make

LENIENT = Bounds(p99_ms=30_000, rate=20)
PLAIN = Candidate("fp32", 1, 1, arena=False)


@pytest.fixture(scope="module")
def texts(text_data: Path) -> list[bytes]:
    return read_texts(text_data, count=50)


@pytest.fixture(scope="module")
def task(variant_run: RunDirectory, texts: list[bytes]) -> Task:
    labels = expected_labels(variant_run, "fp32", texts)
    return Task(variant_run, texts, lambda _: labels, LENIENT, seconds=0.3)


@pytest.fixture(scope="module")
def version(variant_run: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned")
    (folder / "candidate.pbtxt").write_text(PLAIN.patch())
    return publish(variant_run, folder / "repository", name=MODEL, config_patch=folder / "candidate.pbtxt")


@pytest.fixture(scope="module")
def server(version: Path) -> Iterator[Server]:
    with running(version.parents[1]) as server:
        yield server


def test_a_trial_that_keeps_its_bounds_says_what_it_measured(task: Task, server: Server) -> None:
    result = loaded(task, server, PLAIN, "short")
    assert result.reason == ""
    assert result.rate == 20
    assert result.value == pytest.approx(1000 / result.p99_ms)
    assert 20 < result.memory_mb < 10_000


def test_a_wrong_answer_under_load_disqualifies(task: Task, server: Server) -> None:
    result = loaded(mistaken(task), server, PLAIN, "short")
    assert re.search(r"answers wrong \(text \d+: got", result.reason)


def mistaken(task: Task) -> Task:
    """Expect the other label of each text."""
    other = {"praise": "blame", "blame": "praise"}
    return replace(task, expected=lambda variant: [other[label] for label in task.expected(variant)])


def test_an_answer_that_is_not_the_verified_one_disqualifies(server: Server, version: Path) -> None:
    goldens = Goldens.load(version)
    last = replace(goldens.rows[-1], probabilities=tuple(p + 1e-4 for p in goldens.rows[-1].probabilities))
    with pytest.raises(Unfit, match=f"does not answer as it was verified: golden row {len(goldens.rows) - 1}"):
        check(server, replace(goldens, rows=(*goldens.rows[:-1], last)))


@pytest.mark.parametrize(
    ("bounds", "reason"),
    [
        (replace(LENIENT, max_memory_mb=1), r"^[\d,]+ MB of memory, allowed 1$"),
        (replace(LENIENT, p99_ms=0.001), r"^p99 [\d.]+ ms, wanted at most 0.001 ms"),
    ],
)
def test_a_bound_that_is_not_kept_disqualifies(bounds: Bounds, reason: str, task: Task, server: Server) -> None:
    result = loaded(replace(task, bounds=bounds), server, PLAIN, "short")
    assert re.search(reason, result.reason)


def test_side_by_side_each_gets_its_own_rate_and_a_wrong_one_spoils_no_other(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "ROUNDS", 8)
    wrong = mistaken(task)
    asked = replace(task, expected=lambda one: (wrong if one == "int8" else task).expected(one), bounds=Bounds(2_000))
    plain, other, unfit = make(asked, "final", [PLAIN, replace(PLAIN, instances=2), replace(PLAIN, variant="int8")])
    for result in (plain, other):
        assert (result.reason, result.value) == ("", result.rate)
        assert result.rate > 20
        assert 20 < result.memory_mb < 10_000
    assert plain.rate != other.rate
    assert "answers wrong" in unfit.reason


def test_side_by_side_at_a_given_rate_the_median_round_decides(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "ROUNDS", 4)
    (result,) = make(task, "confirm", [PLAIN])
    assert (result.reason, result.rate, result.value) == ("", 20, 1000 / result.p99_ms)
    (late,) = make(replace(task, bounds=Bounds(0.001, rate=20)), "confirm", [PLAIN])
    assert re.search(r"^p99 [\d.]+ ms, wanted at most 0.001 ms", late.reason)


def test_side_by_side_what_no_round_keeps_is_said(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "ROUNDS", 4)
    (late,) = make(replace(task, bounds=Bounds(0.001)), "confirm", [PLAIN])
    assert re.search(r"^p99 [\d.]+ ms, wanted at most 0.001 ms", late.reason)


def test_a_run_is_tuned_and_published_as_it_was_tuned(
    verified_run: RunDirectory, copy_of, text_data: Path, tmp_path: Path
) -> None:
    run = copy_of(verified_run)
    words = ["tune", run.path, "--data", text_data, "--p99-ms", 30_000, "--rate", 20, "--trials", 3, "--seconds", 0.3]
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    record = json.loads((run / "tune.json").read_text())
    trials = (run / "tune.jsonl").read_text().splitlines()[1:]
    assert (record["searched"], len(trials)) == (3, len(record["trials"]))
    assert record["found"]["result"]["reason"] == ""
    assert "after 3 trials of" in result.stdout
    assert "Speed over memory" in (run / "tune.html").read_text()
    again = CliRunner().invoke(main, [str(word) for word in words])
    assert (again.exit_code, again.stdout) == (0, result.stdout)
    assert (run / "tune.jsonl").read_text().splitlines()[1:] == trials
    version = publish(run, tmp_path / "repository", config_patch=run / "tuned.pbtxt")
    config = loads((version / "config.pbtxt").read_text())
    assert config.instance_group[0].count == record["found"]["candidate"]["instances"]
    with pytest.raises(UsageError, match=r"tune.jsonl: is of another p99_ms: 30000.0, now 20.0"):
        tune(run, read_texts(text_data), Bounds(20.0, rate=20.0), seconds=0.3)


def test_what_is_tried_is_what_the_recipe_says_and_what_the_run_kept(
    variant_run: RunDirectory, verified_run: RunDirectory
) -> None:
    space = space_of(variant_run)
    assert space.start == Candidate("fp32", 2, 1)
    assert space.variants == ("fp32", "int8")
    assert space_of(verified_run).variants == ("fp32",)


def test_a_variant_that_was_changed_since_it_was_verified_is_not_tried(
    variant_run: RunDirectory, tmp_path: Path
) -> None:
    run = RunDirectory.open(shutil.copytree(variant_run.path, tmp_path / "run"))
    with (run / "model.int8.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(CheckFailed, match=r"model\.int8\.onnx: changed since it was verified"):
        space_of(run)


def test_a_model_of_frames_is_refused(verified_feature_run: RunDirectory) -> None:
    with pytest.raises(UsageError, match="its model takes frames; `pipeline tune` asks with texts"):
        tune(verified_feature_run, [b"x"], LENIENT)
