import json
import os
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import fsspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.prepare import Source, prepare, sizes_of
from pipeline.data.split import split
from pipeline.dataset import SPLITS, Dataset
from pipeline.dataset_writer import create_dataset, replace_folder
from pipeline.errors import DataError, UsageError
from pipeline.readers.rows import Example

FRACTIONS = st.sampled_from([(0.8, 0.1, 0.1), (0.6, 0.2, 0.2), (0.34, 0.33, 0.33), (0.98, 0.01, 0.01)])


def write_csv(path: Path, rows: list[tuple[str, str]]) -> str:
    path.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    return str(path)


@pytest.fixture
def reviews(tmp_path) -> str:
    return write_csv(tmp_path / "reviews.csv", [(f"review {i}", "good" if i % 3 else "bad") for i in range(90)])


def contents(folder: Path) -> dict[str, list[tuple[str, str]]]:
    dataset = Dataset(folder)
    splits = {name: dataset.split(name) for name in SPLITS}
    return {
        name: [(text, dataset.classes[label]) for text, label in zip(found.texts(), found.labels, strict=True)]
        for name, found in splits.items()
    }


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


ROWS = st.lists(st.tuples(st.integers(0, 40).map(str), st.sampled_from(["a", "a", "a", "b"])), min_size=1, max_size=120)
ENOUGH = [(f"{label}{i}", label) for label in "ab" for i in range(3)]


@given(rows=ROWS, seed=st.integers(0, 2**32), fractions=FRACTIONS)
def test_exact_duplicates_never_straddle_splits_and_every_row_is_accounted_for(tmp_path_factory, rows, seed, fractions):
    folder = tmp_path_factory.mktemp("split")
    rows = [*rows, *ENOUGH]
    found = contents(split(write_csv(folder / "a.csv", rows), folder / "set", seed=seed, fractions=fractions))

    labels = defaultdict(set)
    for text, label in rows:
        labels[text].add(label)
    kept = [row for split_rows in found.values() for row in split_rows]
    assert sorted(kept) == sorted((text, *names) for text, names in labels.items() if len(names) == 1)

    read = Dataset(folder / "set").profile["read"]["file"]
    conflicting = [text for text, _ in rows if len(labels[text]) > 1]
    assert read["conflicts"]["count"] == len(conflicting)
    assert read["conflicts"]["inputs"] == len(set(conflicting))
    assert len(rows) == len(kept) + read["duplicates"]["count"] + read["conflicts"]["count"]
    assert all(Counter(label for _, label in found[name]).keys() == {"a", "b"} for name in SPLITS)


@given(count=st.integers(3, 5000), fractions=FRACTIONS)
def test_a_class_is_shared_out_to_within_one_row(count, fractions):
    sizes = sizes_of(count, fractions)
    assert sizes.sum() == count
    assert sizes.min() >= 1
    is_topped_up = np.asarray(fractions) * count < 1
    assert (np.abs(sizes - np.asarray(fractions) * count) < 1 + is_topped_up.sum()).all()


def test_splitting_is_the_same_for_the_same_seed_and_another_for_another(reviews, tmp_path):
    first = files(split(reviews, tmp_path / "first", seed=7))
    assert files(split(reviews, tmp_path / "second", seed=7)) == first
    other = files(split(reviews, tmp_path / "third", seed=8))
    assert other["test.parquet"] != first["test.parquet"]


def test_splits_are_stratified_and_described(reviews, tmp_path):
    profile = Dataset(split(reviews, tmp_path / "set")).profile
    assert profile["classes"] == ["bad", "good"]
    assert profile["class_rows"] == {
        "bad": {"train": 24, "validation": 3, "test": 3},
        "good": {"train": 48, "validation": 6, "test": 6},
    }
    assert profile["rows"] == {"train": 72, "validation": 9, "test": 9}
    assert profile["lengths"]["words"] == {"p50": 2, "p90": 2, "p99": 2, "max": 2}
    assert profile["lengths"]["characters"]["max"] == len("review 89")
    assert profile["source"]["file"]["name"] == reviews
    assert len(profile["source"]["file"]["sha256"]) == 64
    assert (profile["seed"], profile["fractions"], profile["interface"]) == (0, [0.8, 0.1, 0.1], "text")


def test_a_given_test_file_is_kept_and_its_inputs_leave_the_others(reviews, tmp_path):
    test = [("review 3", "bad"), ("review 4", "bad"), ("new", "good")]
    folder = split(reviews, tmp_path / "set", test=write_csv(tmp_path / "test.csv", test), fractions=(0.75, 0.25, 0))
    found = contents(folder)
    assert found["test"] == test
    assert {text for name in ("train", "validation") for text, _ in found[name]} == {
        f"review {i}" for i in range(90) if i not in (3, 4)
    }
    assert len(found["validation"]) == 22
    assert Dataset(folder).profile["read"]["file"]["also_in_test"] == 2


def test_bad_rows_are_counted_with_their_lines_and_skipped(tmp_path):
    rows = [(f"text {i}", "ab"[i % 2]) for i in range(20)]
    path = Path(write_csv(tmp_path / "a.csv", [(" ", "a"), *rows, ("x", ""), *[("", "b")] * 30]))
    folder = split(str(path), tmp_path / "set")
    assert Dataset(folder).profile["read"]["file"]["bad"] == {
        "empty text": {"count": 31, "lines": [2, *range(24, 43)]},
        "no label": {"count": 1, "lines": [23]},
    }
    with pytest.raises(DataError, match=r"32 bad row\(s\): line 2: empty text; line 23: no label; line 24: empty text"):
        split(str(path), tmp_path / "other", on_bad_row="fail")
    assert not (tmp_path / "other").exists()


def test_feature_files_are_split_like_text_and_keep_their_bits(tmp_path):
    generator = np.random.default_rng(3)
    lengths = generator.integers(1, 9, 60)
    features = generator.normal(size=(lengths.sum(), 4)).astype(np.float32)
    labels = np.arange(60) % 3
    np.savez(tmp_path / "a.npz", features=features, lengths=lengths, labels=labels)
    dataset = Dataset(split(str(tmp_path / "a.npz"), tmp_path / "set"))
    assert (dataset.interface, dataset.feature_size, dataset.classes) == ("features", 4, ("0", "1", "2"))
    found = {}
    for name in SPLITS:
        part = dataset.split(name)
        found |= {
            frames.tobytes(): dataset.classes[label] for frames, label in zip(part.frames(), part.labels, strict=True)
        }
    pieces = np.split(features, np.cumsum(lengths)[:-1])
    assert found == {piece.tobytes(): str(label) for piece, label in zip(pieces, labels, strict=True)}
    assert dataset.profile["lengths"]["frames"]["max"] == lengths.max()


def test_a_time_series_file_can_bring_its_test_file(tmp_path):
    for name, step in (("TRAIN", 0.5), ("TEST", 0.25)):
        cases = "".join(f"{i * step},1:2,3:{'xy'[i % 2]}\n" for i in range(1, 21))
        (tmp_path / f"A_{name}.ts").write_text(f"@dimensions 2\n@classLabel true x y\n@data\n{cases}")
    folder = split(str(tmp_path / "A_TRAIN.ts"), tmp_path / "set", test=str(tmp_path / "A_TEST.ts"))
    profile = Dataset(folder).profile
    assert profile["rows"]["test"] == 20
    assert profile["read"]["file"]["also_in_test"] == 10
    assert profile["rows"]["train"] + profile["rows"]["validation"] == 10


def test_a_uri_can_be_split(tmp_path):
    with fsspec.open("memory://split/a.jsonl", "wb") as file:
        file.writelines(json.dumps({"t": f"text {i}", "l": i % 2}).encode() + b"\n" for i in range(20))
    dataset = Dataset(split("memory://split/a.jsonl", tmp_path / "set", text="t", label="l"))
    assert sum(dataset.profile["rows"].values()) == 20


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no usable row among 0"),
        ([("", "a"), ("x", "")], "no usable row among 2: line 2: empty text; line 3: no label"),
        ([("x", "a"), ("y", "a")], "one class only, 'a'; wanted at least two"),
        (
            [(str(i), "a") for i in range(9)] + [("x", "b")] * 9,
            r"class 'b' has 1 distinct row\(s\), and 3 splits need one each",
        ),
        ([("x", "a"), ("x", "b")], "every input has conflicting labels, first at line 3"),
        ([("x", "a"), ("", "b"), ("y", "")], "at least two. 2 of 3 rows are bad, the first at line 3: empty text.$"),
        (
            [(str(i), "a") for i in range(9)] + [("", "b")] * 9 + [("x", "b")],
            r"1 distinct row\(s\), .* leave it out. 9 of 19 rows are bad, the first at line 11: empty text.$",
        ),
        ([("x", "a"), ("x", "b"), ("y", "")], "first at line 3. 1 of 3 rows are bad, the first at line 4: no label.$"),
    ],
)
def test_data_that_cannot_be_learned_from_is_refused(tmp_path, rows, message):
    with pytest.raises(DataError, match=message):
        split(write_csv(tmp_path / "a.csv", rows), tmp_path / "set")
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ((0.8, 0.1, 0.2), "fractions 0.8,0.1,0.2: they sum to 1.1; wanted 1"),
        ((0.9, 0.1, 0.0), "only with --test FILE may the last be 0"),
        ((1.2, -0.1, -0.1), "wanted three numbers from 0 to 1"),
        ((float("nan"), 0.5, 0.5), "wanted three numbers from 0 to 1"),
    ],
)
def test_wrong_fractions_are_refused(reviews, tmp_path, fractions, message):
    with pytest.raises(UsageError, match=message):
        split(reviews, tmp_path / "set", fractions=fractions)


def test_a_test_file_must_fit_its_training_file(reviews, tmp_path):
    with pytest.raises(DataError, match=r"\(test\): class 'ugly' is not in .*reviews.csv, which has bad, good"):
        split(reviews, tmp_path / "set", test=write_csv(tmp_path / "t.csv", [("x", "ugly"), ("y", "good")]))
    with pytest.raises(UsageError, match=r"holds features, and .*reviews.csv text; wanted the same"):
        split(reviews, tmp_path / "set", test="x.npz")


def test_another_data_set_is_left_alone_unless_it_is_to_be_replaced(reviews, tmp_path):
    target = split(reviews, tmp_path / "set", seed=1)
    first = files(target)
    (tmp_path / "link").symlink_to(target)
    for place in (target, tmp_path / "link"):
        with pytest.raises(
            UsageError, match=r"set: holds another prepared data set, .* Use --replace, or choose another"
        ):
            split(reviews, place, seed=2)
    assert files(target) == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "reviews.csv", "set"]
    assert files(split(reviews, target, seed=2, replace=True)) != first


def test_a_damaged_data_set_is_prepared_again_without_being_asked_for(reviews, tmp_path):
    target = split(reviews, tmp_path / "set", seed=1)
    first = files(target)
    for name in ("test.parquet", "dataset.json"):
        (target / name).write_text("{")
        assert files(split(reviews, target, seed=1)) == first
    (target / "dataset.json").write_text("{")
    assert Dataset(split(reviews, target, seed=2)).profile["seed"] == 2


def test_the_same_data_set_is_written_again_and_anything_else_is_left_alone(reviews, tmp_path):
    target = split(reviews, tmp_path / "set", seed=1)
    first = files(target)
    assert files(split(reviews, target, seed=1)) == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["reviews.csv", "set"]

    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter.txt").write_text("years of work")
    for place in (other, tmp_path / "reviews.csv"):
        with pytest.raises(UsageError, match="holds something other than a prepared data set, and is left alone"):
            split(reviews, place)
    assert (other / "chapter.txt").read_text() == "years of work"


def test_an_earlier_data_set_comes_back_when_the_new_one_cannot_take_its_place(reviews, tmp_path):
    target = split(reviews, tmp_path / "set")
    before = files(target)
    with pytest.raises(FileNotFoundError):
        replace_folder(tmp_path / "vanished.tmp", target)
    assert files(target) == before


def test_a_link_to_a_data_set_stays_a_link(reviews, tmp_path):
    target = split(reviews, tmp_path / "set", seed=1)
    (tmp_path / "link").symlink_to(target)
    split(reviews, tmp_path / "link", seed=2, replace=True)
    assert (tmp_path / "link").is_symlink()
    assert Dataset(target).profile["seed"] == 2


def test_a_source_that_changes_while_it_is_read_is_refused_and_the_earlier_data_set_stays(tmp_path):
    passes = []

    def rows():
        passes.append(1)
        return iter([Example(i, f"{i}{'x' * (len(passes) - 1)}", "ab"[i % 2]) for i in range(20)])

    source = Source("moving", "text", rows, None, {})
    target = split(write_csv(tmp_path / "a.csv", ENOUGH), tmp_path / "set")
    before = files(target)
    with pytest.raises(DataError, match="moving: changed while it was being read"):
        prepare(source, target, (0.8, 0.1, 0.1), seed=0)
    assert files(target) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "set"]


KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline.data.split import split

source, target = sys.argv[1:]

def kill(name, arguments):
    if name == "os.rename" and Path(arguments[1]) == Path(target):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill)
split(source, Path(target), seed=2, replace=True)
"""


def kill_a_split(source: str, target: Path) -> None:
    """Start a split, and kill it (-9) just before it moves the new data set to its place."""
    result = subprocess.run([sys.executable, "-c", KILLED, source, str(target)], check=False)
    assert result.returncode == -signal.SIGKILL


def test_a_run_killed_between_the_two_renames_costs_nothing(reviews, tmp_path):
    target = split(reviews, tmp_path / "set", seed=1)
    before = files(target)
    kill_a_split(reviews, target)
    assert not target.exists()
    with pytest.raises(DataError, match="one class only"):
        split(write_csv(tmp_path / "poor.csv", [("x", "a")]), target)
    assert files(target) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["poor.csv", "reviews.csv", "set"]


def test_what_a_killed_run_left_is_swept_up_by_the_next(reviews, tmp_path):
    target = tmp_path / "set"
    kill_a_split(reviews, target)
    assert [path.suffix for path in tmp_path.iterdir() if path.name.startswith(".set.")] == [".tmp"]
    split(reviews, target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["reviews.csv", "set"]


def test_a_run_leaves_the_folders_of_another_run_and_of_other_sets_alone(reviews, tmp_path):
    target = tmp_path / "set"
    (tmp_path / ".set.notes.tmp").mkdir()
    (tmp_path / ".sett.01234567.tmp").mkdir()
    with create_dataset(target, "text", replace=True) as writer:
        split(reviews, target, seed=1)
        for name in SPLITS:
            writer.write(name, "x", "a")
        writer.profile = {"interface": "text", "classes": ["a"]}
    assert Dataset(target).classes == ("a",)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [".set.notes.tmp", ".sett.01234567.tmp", "reviews.csv", "set"]


LIMITED = """
import resource, sys
from pipeline.commands import main
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
sys.argv[0] = "pipeline"
main()
"""


def test_a_full_disk_is_one_clear_line_and_the_earlier_data_set_stays(reviews, tmp_path):
    target = split(reviews, tmp_path / "set")
    before = files(target)
    large = write_csv(tmp_path / "large.csv", [(os.urandom(40).hex(), "ab"[i % 2]) for i in range(500)])
    arguments = [sys.executable, "-c", LIMITED, "data", "split", large, "--to", str(target)]
    result = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    assert "set: cannot be written: File too large. What was there is intact." in result.stderr
    assert files(target) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large.csv", "reviews.csv", "set"]


def test_a_split_changed_by_hand_is_noticed(reviews, tmp_path):
    target = split(reviews, tmp_path / "set")
    content = bytearray((target / "test.parquet").read_bytes())
    content[40] ^= 1
    (target / "test.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"test.parquet: changed since `pipeline data` wrote it"):
        Dataset(target).split("test")


def test_a_split_that_is_missing_or_cannot_be_read_is_one_clear_line(reviews, tmp_path):
    target = split(reviews, tmp_path / "set")
    (target / "test.parquet").unlink()
    with pytest.raises(DataError, match=r"set/test.parquet: no such file"):
        Dataset(target).split("test")
    (target / "test.parquet").symlink_to("/proc/self/mem")  # what even root cannot read
    with pytest.raises(DataError, match=r"set/test.parquet: cannot be read: Input/output error"):
        Dataset(target).split("test")


@pytest.mark.parametrize(
    "change",
    [
        [],
        None,
        "text",
        {"interface": None},
        {"interface": "audio"},
        {"classes": "ab"},
        {"classes": [1, 2]},
        {"classes": None},
        {"hashes": []},
        {"hashes": {"train.parquet": "0"}},
        {"hashes": dict.fromkeys(["train.parquet", "validation.parquet", "test.parquet"], 0)},
        {"feature_size": "x"},
        {"interface": "features"},
    ],
)
def test_a_dataset_json_of_another_shape_is_damaged(reviews, tmp_path, change):
    target = split(reviews, tmp_path / "set")
    path = target / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change if isinstance(change, dict) else change))
    with pytest.raises(DataError, match=r"set/dataset.json: cut off or edited. Prepare the data set again"):
        Dataset(target)


def test_a_split_that_does_not_hold_what_dataset_json_says_is_damaged(reviews, tmp_path):
    target = split(reviews, tmp_path / "set")
    profile = json.loads((target / "dataset.json").read_text())
    (target / "dataset.json").write_text(json.dumps(profile | {"classes": ["bad"]}))
    with pytest.raises(DataError, match=r"test.parquet: class 'good' is not in dataset.json"):
        Dataset(target).split("test")
    (target / "dataset.json").write_text(json.dumps(profile | {"interface": "features", "feature_size": 3}))
    with pytest.raises(DataError, match=r"test.parquet: damaged"):
        Dataset(target).split("test")


def test_a_folder_that_is_no_data_set_is_a_mistake_of_usage(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UsageError, match=r"not a prepared data set. Make one with `pipeline data split") as caught:
            Dataset(folder)
        assert caught.value.exit_code == 2
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(DataError, match=r"dataset.json: cut off or edited") as damage:
        Dataset(tmp_path)
    assert damage.value.exit_code == 1
