import json

import numpy as np
import pytest
from click.testing import CliRunner

from pipeline.commands import main
from pipeline.data.inspect import inspect
from pipeline.data.split import split
from pipeline.dataset import Dataset
from pipeline.errors import DataError, UsageError


@pytest.fixture
def table(tmp_path) -> str:
    lines = ["text,label", "a film,good", "a film,good", "b film,good", "b film,bad", ",bad", "one two three,bad", "x,"]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    return str(tmp_path / "a.csv")


def test_inspect_counts_what_a_split_would_keep_and_leave_out(table):
    profile = inspect(table)
    assert profile.rows == {"file": 2}
    assert profile.class_rows == {"bad": {"file": 1}, "good": {"file": 1}}
    assert profile.lengths["words"] == {"p50": 2, "p90": 3, "p99": 3, "max": 3}
    assert profile.read["file"] == {
        "rows": 7,
        "unit": "line",
        "bad": {"empty text": {"count": 1, "lines": [6]}, "no label": {"count": 1, "lines": [8]}},
        "duplicates": {"count": 1, "lines": [3]},
        "conflicts": {"inputs": 1, "count": 2, "lines": [5]},
    }


def test_inspect_tells_a_person_the_same(table):
    result = CliRunner().invoke(main, ["data", "inspect", table])
    assert result.exit_code == 0
    assert "text: 2 rows, 2 classes" in result.stdout
    assert "left out 2 bad, 1 duplicates, 1 inputs with conflicting labels (2 rows)" in result.stdout
    assert "empty text: 1 (line 6)" in result.stdout
    assert "words in a row: p50 2 · p90 3 · p99 3 · max 3" in result.stdout


def test_inspect_measures_what_the_training_split_does_not_know(tmp_path):
    for name, words in (("train", "red green"), ("test", "red blué")):
        rows = [f"{words} {i},{'ab'[i % 2]}" for i in range(8)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,label", *rows]))
    folder = split(str(tmp_path / "train.csv"), tmp_path / "set", test=str(tmp_path / "test.csv"))
    known = {text.split()[-1] for text in Dataset(folder).split("train").texts()}
    unknown_numbers = 8 - len(known)
    profile = inspect(str(folder))
    assert profile.unseen["test"]["words"] == pytest.approx((8 + unknown_numbers) / 24)
    letters = set("".join(Dataset(folder).split("train").texts()))
    texts = Dataset(folder).split("test").texts()
    assert profile.unseen["test"]["characters"] == pytest.approx(
        sum(letter not in letters for text in texts for letter in text) / sum(map(len, texts))
    )
    assert profile.straddling == 0
    assert profile.rows == Dataset(folder).profile["rows"]


def test_inspect_reads_frames_from_a_file_and_from_a_prepared_folder(tmp_path):
    features = np.random.default_rng(0).normal(size=(40, 6, 2))
    np.savez(tmp_path / "a.npz", features=features, lengths=np.arange(40) % 6 + 1, labels=np.arange(40) % 2)
    file = inspect(str(tmp_path / "a.npz"))
    folder = inspect(str(split(str(tmp_path / "a.npz"), tmp_path / "set")))
    assert file.lengths == folder.lengths == {"frames": {"p50": 3, "p90": 6, "p99": 6, "max": 6}}
    assert (file.feature_size, folder.feature_size) == (2, 2)
    assert sum(folder.rows.values()) == file.rows["file"] == 40


def test_rows_of_arrays_are_called_rows_and_not_lines(tmp_path):
    features = np.ones((4, 1, 2)) * np.arange(4)[:, None, None]
    np.savez(tmp_path / "a.npz", features=features, lengths=[1, 1, 0, 1], labels=[0, 1, 0, 1])
    lines = list(inspect(str(tmp_path / "a.npz")).lines())
    assert lines[-1] == "  no frames: 1 (row 3)"
    with pytest.raises(DataError, match=r"a.npz: 1 bad row\(s\): row 3: no frames\."):
        split(str(tmp_path / "a.npz"), tmp_path / "set", on_bad_row="fail")


@pytest.mark.parametrize(
    "read",
    [
        [],
        {"file": 1},
        {"file": {"rows": "1"}},
        {"file": {"rows": 1, "bad": {"x": 1}, "duplicates": {"count": 0, "lines": []}, "conflicts": {}}},
    ],
)
def test_inspect_refuses_findings_that_were_edited(table, tmp_path, read):
    with (tmp_path / "more.csv").open("w") as file:
        file.write("text,label\n" + "".join(f"film {i},{'ab'[i % 2]}\n" for i in range(8)))
    folder = split(str(tmp_path / "more.csv"), tmp_path / "set")
    profile = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(profile | {"read": read}))
    with pytest.raises(DataError, match=r"set/dataset.json: cut off or edited. Prepare the data set again"):
        inspect(str(folder))


def test_inspect_prints_json_that_holds_everything(table):
    result = CliRunner().invoke(main, ["data", "inspect", table, "--json"])
    assert json.loads(result.stdout)["read"]["file"]["conflicts"]["lines"] == [5]


def test_inspect_refuses_what_is_not_there_or_not_data(tmp_path):
    with pytest.raises(UsageError, match="nowhere: no such file or folder"):
        inspect("nowhere")
    with pytest.raises(UsageError, match=r"not a prepared data set. Make one with `pipeline data split"):
        inspect(str(tmp_path))
    (tmp_path / "a.csv").write_text("text,label\n")
    with pytest.raises(DataError, match=r"a.csv: holds no rows"):
        inspect(str(tmp_path / "a.csv"))
