import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pipeline.bench.cost import grid
from pipeline.bench.grown import Size, grown, run_subject
from pipeline.capacity import Call, Cost, Network, errors, fitted, time_terms
from pipeline.commands import main
from pipeline.commands.bench.cost import cost_table
from pipeline.dataset import Dataset
from pipeline.encoding import encode
from pipeline.reference import Reference
from pipeline.run_directory import RunDirectory
from pipeline.runtime import has_cuda_driver, open_session
from pipeline.tokenizer import FIRST_WORD_ID


@pytest.fixture(scope="module")
def cost_file(exported_run: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cost") / "cost.json"
    result = CliRunner().invoke(main, ["bench", "cost", str(exported_run.path), "--rounds", "2", "--out", str(path)])
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith(f"{path}\n")
    return path


@pytest.fixture(scope="module")
def record(cost_file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(cost_file.read_text())
    return content


def test_the_network_and_the_lengths_are_the_runs_own(exported_run: RunDirectory, record: dict[str, Any]) -> None:
    cost, reference = Cost.of(record), Reference.load(exported_run)
    size = (exported_run / "model.onnx").stat().st_size
    assert cost.network == Network(((16, 16),), 2, 4, FIRST_WORD_ID + len(reference.vocabulary), size)
    split = Dataset(Path(exported_run.info["dataset"])).split("validation")
    lengths = encode(split, reference.tokenizer).lengths
    assert (cost.lengths[0], cost.lengths[-1]) == (lengths.min(), lengths.max())
    assert sum(len(text.encode()) for text in split.texts()) == round(cost.bytes_per_token * lengths.sum())


def test_prices_come_from_what_was_not_held_out_and_are_checked_on_what_was(record: dict[str, Any]) -> None:
    network, of = Network(**record["network"]), record["measurements"]
    own = [one for one in of if one["model"] == "run" and one["threads"] == 1]
    assert len(own) == len(grid(record["lengths"][-1], record["max_batch_size"]))
    for one in own:
        assert one["text_bytes"] >= one["rows"] * one["tokens"], "a token has a byte at least"
    terms = [time_terms(network, Call(one["rows"], one["tokens"], one["text_bytes"])) for one in own]
    seconds = [one["seconds"] for one in own]
    missed = errors(record["seconds"]["1"], terms[1::3], seconds[1::3])
    assert missed == pytest.approx(record["held_out"]["calls, 1 thread(s)"])
    assert record["missed"]["1"] == missed["median"]
    held_out = [one for one in of if one["model"] == "held out" and one["threads"] == 1]
    assert record["held_out"]["model, 1 thread(s)"]["measurements"] == len(held_out)
    assert fitted(terms, seconds) != record["seconds"]["1"], "held-out calls would have moved the prices"


def test_a_call_of_more_work_takes_longer_and_more_memory(record: dict[str, Any]) -> None:
    cost = Cost.of(record)
    for threads in cost.seconds:
        assert (
            0
            < cost.call_seconds(threads, 1, 4)
            < cost.call_seconds(threads, 64, 4)
            < cost.call_seconds(threads, 64, 40)
        )
    assert 0 < cost.process_bytes < cost.instance_bytes(1, 4) < cost.instance_bytes(64, 512)
    assert cost.crowding >= 1
    assert record["noise"] >= 1


def test_the_table_tells_speeds_prices_and_errors(record: dict[str, Any]) -> None:
    table, cost = cost_table(record), Cost.of(record)
    assert f"{64 / cost.call_seconds(1, 64, 4):,.0f}" in table
    for part in (
        "texts/s of a core",
        "batch 64",
        "1 thread(s): ",
        "memory: ",
        "held out model, 1 thread(s)",
        "noise: ",
    ):
        assert part in table


def test_doctor_plans_with_what_was_measured(cost_file: Path) -> None:
    arguments = ["doctor", "--plan", "rate=100,p99=10s", "--cost", str(cost_file), "--json"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["machines"] >= 2


@pytest.mark.skipif(has_cuda_driver(), reason="this machine has a CUDA driver")
def test_without_a_gpu_there_is_no_cost_on_one(exported_run: RunDirectory, tmp_path: Path) -> None:
    words = ["bench", "cost", str(exported_run.path), "--device", "cuda", "--out", str(tmp_path / "cost.json")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 1
    assert "bench cost: this machine has no CUDA driver. Run it on one with a GPU" in result.stderr
    assert not (tmp_path / "cost.json").exists()


def test_a_run_without_the_variant_is_told_so(exported_run: RunDirectory) -> None:
    result = CliRunner().invoke(main, ["bench", "cost", str(exported_run.path), "--variant", "int8"])
    assert result.exit_code == 1
    assert "model.int8.onnx: missing. Make it with `pipeline export --variants int8`" in result.stderr


@pytest.mark.parametrize(("run_fixture", "variant"), [("exported_run", "int8"), ("verified_feature_run", "fp32")])
def test_a_grown_model_is_of_the_wanted_size_and_answers(
    run_fixture: str, variant: str, request: pytest.FixtureRequest
) -> None:
    reference = Reference.load(request.getfixturevalue(run_fixture))
    subject = grown(reference, variant, Size("twice", hidden=2, vocabulary=1 / 2))
    own = run_subject(reference, "fp32").network
    assert [H for _, H in subject.network.layers] == [2 * H for _, H in own.layers]
    assert subject.network.vocabulary == (
        FIRST_WORD_ID + round((own.vocabulary - FIRST_WORD_ID) / 2) if own.vocabulary else 0
    )
    call, feed = subject.request(rows=3, tokens=5)
    probabilities, valid = open_session(subject.content).run(["probabilities", "valid"], feed)
    assert probabilities.sum(1) == pytest.approx([1, 1, 1], abs=1e-5)
    assert valid.all()
    if reference.tokenizer:
        texts = [text.decode() for text in feed["text"][:, 0].tolist()]
        assert reference.tokenizer.encode(texts).lengths.tolist() == [5, 5, 5]
        assert call == Call(3, 5, sum(len(text.encode()) for text in texts))


def test_the_grid_reaches_the_longest_text_and_the_largest_batch() -> None:
    assert grid(500, 64)[::5] == [(1, 4), (4, 4), (16, 4), (64, 4)]
    assert grid(500, 64)[-1] == (64, 500)
    assert grid(3, 1) == [(1, 3)]
