"""What is made once: by content, whole or not at all, and mapped rather than held."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Barrier, BrokenBarrierError

import numpy as np
import pytest

from pipeline import dataset as dataset_module
from pipeline.cache import KEPT_SECONDS, cache_folder, made_once
from pipeline.data.resolve import resolve
from pipeline.data.split import split
from pipeline.dataset import Dataset
from pipeline.encoding import encode
from pipeline.errors import PipelineError
from pipeline.recipe import TokenizerKeys
from pipeline.tokenizer import Tokenizer, build


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_CACHE", str(tmp_path / "cache"))


def entries() -> list[str]:
    return sorted(path.name for path in cache_folder().iterdir() if not path.name.startswith("."))


@pytest.fixture
def tokenizer() -> Tokenizer:
    return Tokenizer(build(["film", "book", "is", "bad"], TokenizerKeys()).SerializeToString())


def test_a_split_is_encoded_once_and_then_mapped(
    text_data: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = Dataset(text_data).split("train")
    first = encode(train, tokenizer)
    assert first.values.dtype == np.int32
    monkeypatch.setattr(tokenizer, "encode", None)  # a second encoding would fail
    second = encode(train, tokenizer)
    assert isinstance(second.values.base, np.memmap)
    assert np.array_equal(first.values, second.values)
    assert np.array_equal(first.offsets, second.offsets)


def test_cached_sequences_are_those_of_each_row_alone(text_data: Path, tokenizer: Tokenizer) -> None:
    train = Dataset(text_data).split("train")
    direct = tokenizer.encode(train.texts())
    rows = np.array([5, 0, 17])
    for one, other in zip(encode(train, tokenizer).padded(rows), direct.padded(rows), strict=True):
        assert np.array_equal(one, other)
        assert one.dtype == np.int64


def test_cached_frames_are_those_of_the_file(feature_data: Path) -> None:
    train = Dataset(feature_data).split("train")
    assert np.array_equal(encode(train, None).values, np.concatenate(train.frames()))
    assert encode(train, None).values.dtype == np.float32


def test_another_tokenizer_and_another_split_have_sequences_of_their_own(text_data: Path, tokenizer: Tokenizer) -> None:
    data = Dataset(text_data)
    other = Tokenizer(build(["film"], TokenizerKeys()).SerializeToString())
    encode(data.split("train"), tokenizer)
    encode(data.split("train"), other)
    encode(data.split("test"), tokenizer)
    encode(data.split("test").take(np.arange(3)), tokenizer)  # some rows are no content to remember
    assert len(entries()) == 3


def test_what_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    def make(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise OSError(28, "No space left on device")

    with pytest.raises(PipelineError, match=r"No space left on device. Make room, or set PIPELINE_CACHE"):
        made_once("encoded-1", make)
    assert entries() == []
    assert (made_once("encoded-1", lambda folder: (folder / "whole").touch()) / "whole").exists()


def test_what_a_killed_process_left_is_made_again() -> None:
    (cache_folder() / ".encoded-1.tmp").mkdir(parents=True)
    (cache_folder() / ".encoded-1.tmp" / "half").touch()
    assert [path.name for path in made_once("encoded-1", lambda folder: (folder / "a").touch()).iterdir()] == ["a"]


def test_what_a_killed_process_left_of_something_else_goes_unless_it_is_being_made() -> None:
    (cache_folder() / ".encoded-1.tmp").mkdir(parents=True)
    (cache_folder() / ".encoded-1.tmp" / "half").touch()

    def make(_: Path) -> None:
        made_once("encoded-3", lambda _: None)  # what is made at the same time stays
        assert (cache_folder() / ".encoded-2.tmp").exists()

    made_once("encoded-2", make)
    assert entries() == ["encoded-2", "encoded-3"]
    assert list(cache_folder().glob(".*.tmp")) == []


def test_another_onnx_runtime_may_see_other_tokens(
    text_data: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode(Dataset(text_data).split("train"), tokenizer)
    monkeypatch.setattr("pipeline.encoding.VERSION", "another")
    encode(Dataset(text_data).split("train"), tokenizer)
    assert len(entries()) == 2


def test_what_is_there_can_be_used_where_nothing_can_be_written() -> None:
    made_once("encoded-1", lambda folder: (folder / "a").touch())
    lock = cache_folder() / ".encoded-1.lock"
    lock.unlink()
    lock.mkdir()  # cannot be opened, not even by root
    assert (made_once("encoded-1", lambda _: None) / "a").exists()


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIPELINE_CACHE")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.getuid", lambda: 2**31 - 7)  # nobody's
    with pytest.raises(PipelineError, match="Set PIPELINE_CACHE to a folder"):
        cache_folder()


def test_what_nobody_asked_for_in_a_month_goes(tmp_path: Path) -> None:
    for name in ("encoded-old", "encoded-new", "wheels"):
        made_once(name, lambda _: None)
    for name in ("encoded-old", "wheels"):
        os.utime(cache_folder() / name, (0, 0))
    made_once("rows-1", lambda _: None)
    assert KEPT_SECONDS > 86_400
    assert entries() == ["encoded-new", "rows-1", "wheels"]
    assert list(cache_folder().glob(".*.tmp")) == []


def test_a_cache_that_cannot_be_written_is_one_clear_line(
    text_data: Path, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PIPELINE_CACHE", str(tmp_path / "file"))
    with pytest.raises(PipelineError, match=r"cannot be written: .*set PIPELINE_CACHE to another folder"):
        encode(Dataset(text_data).split("train"), tokenizer)


@pytest.mark.parametrize("name", ["text_data", "feature_data"])
def test_a_large_split_is_the_same_mapped_from_the_disk(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Dataset(request.getfixturevalue(name))
    held = data.split("train")
    monkeypatch.setattr(dataset_module, "_MOST_IN_MEMORY", 0)
    mapped = data.split("train")
    assert entries() == [f"rows-{held.sha256}"]
    assert mapped.inputs.equals(held.inputs)
    assert np.array_equal(mapped.labels, held.labels)
    assert mapped.inputs.take([3, 1]).equals(held.inputs.take([3, 1]))


def test_a_large_split_is_learned_from_without_being_held(tmp_path: Path) -> None:
    """Peak memory of reading, fitting and encoding 60 MB of text beside that of 6 MB."""
    peaks = []
    for rows in (1_000, 10_000):
        path = tmp_path / f"{rows}.csv"
        with path.open("w") as file:
            file.write("text,label\n")
            for row in range(rows):
                file.write(f"{row} {'word other ' * 545},{'ab'[row % 2]}\n")
        data = split(str(path), tmp_path / f"data{rows}", fractions=(0.98, 0.01, 0.01))
        script = (
            "import resource, sys; from pathlib import Path; from pipeline import dataset;"
            "from pipeline.encoding import encode; from pipeline.tokenizer import Tokenizer, fit;"
            "from pipeline.recipe import TokenizerKeys;"
            "dataset._MOST_IN_MEMORY = 0; dataset._WINDOW_BYTES = 2**20;"
            "train = dataset.Dataset(Path(sys.argv[1])).split('train');"
            "graph = fit(train.each_text(), TokenizerKeys(max_tokens=2000));"
            "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
            "sequences = encode(train, Tokenizer(graph.SerializeToString()));"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, len(sequences.values))"
        )
        done = subprocess.run([sys.executable, "-c", script, data], check=True, stdout=subprocess.PIPE, text=True)
        grown, tokens = map(int, done.stdout.split())
        assert tokens > rows * 900
        peaks.append(grown)
    assert peaks[1] - peaks[0] < 25_000, peaks  # KiB; the texts are 60,000 and their tokens 43,000


def test_of_several_processes_one_fetches_a_named_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads stand for processes: each opens the lock for itself."""
    fetched: list[str] = []
    both = Barrier(2)

    def fetch(source: str, folder: Path) -> Path:
        fetched.append(source)
        with suppress(BrokenBarrierError):
            both.wait(0.5)  # the other one may come in here
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pipeline.data.resolve.fetch", fetch)
    with ThreadPoolExecutor(2) as threads:
        assert set(threads.map(lambda _: resolve(None, "vowels"), range(2))) == {Path("data/vowels")}
    assert fetched == ["vowels"]
