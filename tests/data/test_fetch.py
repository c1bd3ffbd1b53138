import hashlib
import os
import pty
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from pipeline.cache import cache_folder
from pipeline.data import fetch as fetching
from pipeline.data.catalog import SETS, Package
from pipeline.data.download import download, open_member
from pipeline.data.fetch import fetch, same_words
from pipeline.dataset import SPLITS, Dataset
from pipeline.errors import DataError, UsageError

MEMBER = "little/data.txt"
METADATA = "Metadata-Version: 2.1\nName: little\nVersion: 1.0\n"


@pytest.fixture
def registry(tmp_path, monkeypatch) -> Path:
    """Make a folder the only registry that pip knows, and an empty cache."""
    folder = tmp_path / "registry"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIPELINE_CACHE", str(tmp_path / "cache"))
    return folder


def make_wheel(folder: Path, content: str) -> Package:
    path = folder / "little-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MEMBER, content)
        archive.writestr("little-1.0.dist-info/METADATA", METADATA)
        archive.writestr("little-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("little-1.0.dist-info/RECORD", "")
    return Package("little", "1.0", hashlib.sha256(path.read_bytes()).hexdigest(), "MIT")


def test_a_wheel_is_downloaded_once_and_then_comes_out_of_the_cache(registry):
    package = make_wheel(registry, "hello")
    wheel = download(package)
    assert wheel.is_relative_to(cache_folder())
    (registry / wheel.name).unlink()
    assert download(package) == wheel
    with open_member(wheel, MEMBER) as file:
        assert file.read() == b"hello"
    assert sorted(path.name for path in wheel.parent.iterdir()) == [wheel.name]


@pytest.fixture
def slow_registry(registry, tmp_path, monkeypatch) -> Iterator[Package]:
    """Serve the folder over HTTP, so that pip has something to download, and give the package that lies in it."""
    package = make_wheel(registry, "x" * 2_000_000)
    handler = partial(Quiet, directory=str(registry))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        monkeypatch.setenv("PIP_FIND_LINKS", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield package
        server.shutdown()
        thread.join()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


DOWNLOAD = """
import sys
from pipeline.data.catalog import Package
from pipeline.data.download import download
print(download(Package("little", "1.0", sys.argv[1], "MIT")).name)
"""


def test_a_download_shows_its_progress_on_a_terminal(slow_registry):
    main, terminal = pty.openpty()
    command = [sys.executable, "-c", DOWNLOAD, slow_registry.sha256]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=terminal, text=True) as process:
        os.close(terminal)
        shown = b"".join(iter(lambda: read_terminal(main), b"")).decode()
        assert process.stdout is not None
        assert process.stdout.read() == "little-1.0-py3-none-any.whl\n"
    os.close(main)
    assert process.returncode == 0
    assert "Downloading" in shown
    assert "2.0 MB" in shown


def read_terminal(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other side is closed
        return b""


def test_a_download_is_quiet_elsewhere(slow_registry):
    command = [sys.executable, "-c", DOWNLOAD, slow_registry.sha256]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("little-1.0-py3-none-any.whl\n", "")


def test_a_damaged_wheel_in_the_cache_is_downloaded_again(registry):
    package = make_wheel(registry, "hello")
    wheel = download(package)
    wheel.write_bytes(wheel.read_bytes()[:-1])
    assert hashlib.sha256(download(package).read_bytes()).hexdigest() == package.sha256


def test_a_wheel_with_other_bytes_than_pinned_is_refused(registry):
    package = make_wheel(registry, "hello")
    make_wheel(registry, "changed")
    with pytest.raises(DataError, match=r"little==1.0: cannot be downloaded: .* another SHA-256 than the pinned one"):
        download(package)
    assert list(cache_folder().rglob("*.whl")) == []


def test_no_registry_is_one_clear_line(registry, tmp_path):
    with pytest.raises(DataError, match=r"^aeon==1.6.0: cannot be downloaded: .*Is there a network\? [^\n]*$"):
        fetch("vowels", tmp_path / "vowels")
    assert not (tmp_path / "vowels").exists()


def test_a_cache_that_cannot_be_written_is_named(registry, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PIPELINE_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"cannot be written: Not a directory. Set PIPELINE_CACHE to another folder"):
        download(make_wheel(registry, "hello"))


def test_a_member_that_is_missing_or_too_large_is_refused(registry, monkeypatch):
    wheel = download(make_wheel(registry, "hello"))
    with pytest.raises(DataError, match=r"has no little/other.txt"), open_member(wheel, "little/other.txt"):
        pass
    monkeypatch.setattr("pipeline.data.download.MOST_MEMBER_BYTES", 4)
    with pytest.raises(DataError, match=r"little/data.txt has 5 bytes; at most 4 are read"), open_member(wheel, MEMBER):
        pass


def test_an_unknown_set_is_answered_with_the_nearest():
    with pytest.raises(
        UsageError, match=r"sentimnet: no such data set. Did you mean sentiment\? There are sentiment, trec"
    ):
        fetch("sentimnet")


def test_every_set_in_the_catalogue_can_be_read():
    assert SETS.keys() == fetching.PARTS.keys()


def test_texts_with_the_same_words_are_the_same_and_texts_without_words_are_not():
    assert same_words("Good, GOOD film!") == same_words("good good film")
    assert same_words("good film") != same_words("goodfilm")
    assert same_words("...") != same_words("!!!")


def check(folder: Path) -> Dataset:
    dataset = Dataset(folder)
    named = SETS[folder.name]
    assert dataset.interface == named.interface
    assert dataset.classes == named.classes
    assert sum(len(dataset.split(name)) for name in SPLITS) == named.rows
    assert dataset.profile["source"]["sha256"] == named.package.sha256
    assert all(set(rows) == set(SPLITS) and min(rows.values()) for rows in dataset.profile["class_rows"].values())
    return dataset


def test_fetch_leaves_another_data_set_alone_unless_told_to_replace_it(registry, tmp_path, monkeypatch):
    lines = "".join(f"{i}\t{1 if i % 2 else -1}\ttext {i}\n" for i in range(20))
    little = replace(
        SETS["sentiment"], package=make_wheel(registry, "id\tsentiment\ttext\n" + lines), members=(MEMBER,)
    )
    monkeypatch.setitem(SETS, "sentiment", little)
    target = fetch("sentiment", tmp_path / "sentiment")
    assert fetch("sentiment", target) == target
    with pytest.raises(UsageError, match=r"sentiment: holds another prepared data set, .* Use --replace"):
        fetch("sentiment", target, seed=1)
    assert Dataset(fetch("sentiment", target, seed=1, replace=True)).profile["seed"] == 1


@pytest.mark.network
def test_vowels_and_motions_keep_their_official_test_sets(tmp_path):
    vowels = check(fetch("vowels", tmp_path / "vowels"))
    assert (vowels.profile["rows"], vowels.feature_size) == ({"train": 234, "validation": 36, "test": 370}, 12)
    assert [len(frames) for frames in vowels.split("test").frames(slice(0, 3))] == [19, 17, 19]
    assert check(fetch("motions", tmp_path / "motions")).profile["rows"]["test"] == 40


@pytest.mark.network
def test_sentiment_is_rated_text_without_duplicates(tmp_path):
    if not any((cache_folder() / SETS["sentiment"].package.sha256).glob("*.whl")):
        pytest.skip("its 32 MB package is not in the cache")
    first = check(fetch("sentiment", tmp_path / "sentiment"))
    assert first.profile["rows"] == {"train": 15394, "validation": 1924, "test": 1924}
    assert not any(re.search(r"&#?\w+;", text) for name in SPLITS for text in first.split(name).texts())
