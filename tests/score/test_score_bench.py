"""`pipeline bench score` beside the figures that it prints."""

import json

import pytest
from click.testing import CliRunner

from pipeline.commands import main
from pipeline.commands.bench.score import scoring_table
from pipeline.run_directory import RunDirectory
from tests.score.conftest import opinions


def test_a_folder_is_refused(verified_run: RunDirectory, write) -> None:
    folder = write("a.csv", opinions(3)).parent
    result = CliRunner().invoke(main, ["bench", "score", str(verified_run.path), str(folder)])
    assert (result.exit_code, result.stderr) == (2, f"pipeline: {folder}: a folder; wanted a file.\n")


def test_a_file_without_rows_is_refused(verified_run: RunDirectory, write) -> None:
    empty = write("empty.csv", opinions(0))
    result = CliRunner().invoke(main, ["bench", "score", str(verified_run.path), str(empty)])
    assert (result.exit_code, result.stderr) == (1, f"pipeline: {empty}: no row in it.\n")


def test_the_ratio_is_the_bare_time_over_that_of_scoring(verified_run: RunDirectory, write, here: None) -> None:
    words = ["bench", "score", verified_run.path, write("a.csv", opinions(300)), "--repeats", 3, "--json"]
    result = CliRunner().invoke(main, list(map(str, words)))
    record = json.loads(result.stdout)
    ratios = [bare / ours for bare, ours in zip(*record["seconds"].values(), strict=True)]
    assert record["ratios"] == pytest.approx(ratios)
    assert record["ratio"] == pytest.approx(sorted(ratios)[1])
    assert record["rows"] == 300
    table = scoring_table(record)
    assert f"scoring has {record['ratio']:.0%} of the bare speed" in table
    assert result.stderr.splitlines()[-1] == "repeat 3 of 3: score"
