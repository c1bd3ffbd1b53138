"""The request log: what `pipeline drift` reads, what a stranger cannot, and what a full disk does not break."""

import asyncio
import hashlib
import json
import logging
import re
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from pipeline.client import AsyncClient, Client, Prediction, RequestLog
from pipeline.client.over_http import HttpClient
from pipeline.errors import UsageError

KEY = b"the key of these tests"
GOOD = Prediction("good", 0.75, {"bad": 0.25, "good": 0.75}, valid=True)


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("kind", [Client, HttpClient])
def test_a_line_holds_what_was_answered_and_the_text_where_it_may(kind, server, tmp_path):
    texts = ["a good film", "l'été", b"\xff\xfe", "awful"]
    with RequestLog(tmp_path / "log", share=1, texts="plain") as log:
        client = kind(server.http_url if kind is HttpClient else server.grpc_url, "tiny", log=log)
        predictions = client.classify(texts)
        client.close()
    lines = {line["text"]: line for line in lines_of(tmp_path / "log")}
    assert lines.keys() == {"a good film", "l'été", "\ufffd\ufffd", "awful"}
    for text, prediction in zip(["a good film", "l'été"], predictions, strict=False):
        line = lines[text]
        assert list(line) == [
            "time", "model", "version", "label", "probability", "probabilities", "valid", "bytes", "text",
        ]  # fmt: skip
        assert abs(datetime.fromisoformat(line["time"]) - datetime.now(UTC)) < timedelta(minutes=5)
        assert (line["model"], line["version"], line["valid"]) == ("tiny", "1", True)
        assert (line["label"], line["bytes"]) == (prediction.label, len(text.encode()))
        assert line["probability"] == pytest.approx(prediction.probability)
        assert line["probabilities"] == pytest.approx(prediction.probabilities)
    invalid = lines["\ufffd\ufffd"]
    assert (invalid["label"], invalid["probability"], invalid["probabilities"]) == (None, None, {})
    assert (invalid["valid"], invalid["bytes"]) == (False, 2)


def test_a_hash_is_made_with_the_key_and_tells_nothing_without_it(server, tmp_path):
    with RequestLog(tmp_path / "log", share=1, key=KEY) as log, Client(server.grpc_url, "tiny", log=log) as client:
        client.classify(["yes"])
    (line,) = lines_of(tmp_path / "log")
    assert "text" not in line
    assert line["text_hash"] == hashlib.blake2b(b"yes", key=KEY, digest_size=16).hexdigest()
    assert line["text_hash"] != hashlib.blake2b(b"yes", digest_size=16).hexdigest()


def test_without_a_key_each_log_makes_its_own(tmp_path):
    for name in ("one", "two"):
        with RequestLog(tmp_path / name, share=1) as log:
            log.write("m", "1", b"yes", GOOD)
            log.write("m", "1", b"yes", GOOD)
    (one, again), (two, _) = lines_of(tmp_path / "one"), lines_of(tmp_path / "two")
    assert one["text_hash"] == again["text_hash"] != two["text_hash"]


def test_a_sequence_has_its_length_and_no_content(server, tmp_path):
    async def ask(log):
        async with AsyncClient(server.grpc_url, "frames", log=log) as client:
            await client.classify([np.ones((5, 3)), np.ones((2, 3))])

    with RequestLog(tmp_path / "log", share=1, texts="plain") as log:
        asyncio.run(ask(log))
    lines = lines_of(tmp_path / "log")
    assert sorted(line["frames"] for line in lines) == [2, 5]
    assert not {"text", "text_hash", "bytes"} & lines[0].keys()


def test_the_sample_has_its_share_of_the_rows_and_a_seed_repeats_it(server, tmp_path):
    texts = [f"good {number}" for number in range(4000)]

    def sample(name, share, seed):
        log = RequestLog(tmp_path / name, share, texts="plain", seed=seed)
        with log, Client(server.grpc_url, "tiny", in_flight=1, log=log) as client:
            client.classify(texts)
        return [line["text"] for line in lines_of(tmp_path / name)]

    one = sample("one", 0.1, seed=7)
    assert 300 < len(one) < 500  # 5 standard deviations of a binomial with mean 400
    assert len(set(one)) == len(one)
    assert sample("again", 0.1, seed=7) == one
    assert sample("other", 0.1, seed=8) != one
    assert sample("none", 0.0, seed=7) == []


def test_files_are_rotated_by_size_and_none_is_torn(tmp_path):
    path = tmp_path / "log"
    with RequestLog(path, share=1, texts="plain", max_bytes=2000, keep=2) as log:
        for number in range(100):
            log.write("m", "1", str(number).encode(), GOOD)
        assert (log.written, log.lost) == (100, 0)
    names = ["log.2", "log.1", "log"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    assert all((tmp_path / name).stat().st_size <= 2000 for name in names)
    kept = [int(line["text"]) for name in names for line in lines_of(tmp_path / name)]
    assert kept == list(range(100 - len(kept), 100))


def test_a_new_file_that_cannot_be_opened_costs_no_older_one(tmp_path):
    with RequestLog(tmp_path / "log", share=1, texts="plain", max_bytes=1, keep=3) as log:
        for number in range(3):
            log.write("m", "1", str(number).encode(), GOOD)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            for _ in range(5):
                log.write("m", "1", b"lost", GOOD)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert (log.written, log.lost) == (3, 5)
        log.write("m", "1", b"3", GOOD)
    assert [lines_of(tmp_path / f"log{end}")[0]["text"] for end in ("", ".1", ".2", ".3")] == ["3", "2", "1", "0"]


def test_a_log_goes_on_where_an_earlier_one_ended(tmp_path):
    for _ in range(2):
        with RequestLog(tmp_path / "log", share=1) as log:
            log.write("m", "1", b"yes", GOOD)
    assert len(lines_of(tmp_path / "log")) == 2


def test_only_its_owner_may_read_it(tmp_path):
    with RequestLog(tmp_path / "log"):
        assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_threads_share_a_log(tmp_path):
    log = RequestLog(tmp_path / "log", share=1, texts="plain", max_bytes=10_000, keep=50)
    with log, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: log.write("m", "1", str(number).encode(), GOOD), range(2000)))
    found = [int(line["text"]) for path in tmp_path.iterdir() for line in lines_of(path)]
    assert sorted(found) == list(range(2000))


def test_another_writer_of_the_same_file_is_refused(tmp_path):
    with RequestLog(tmp_path / "log"), pytest.raises(UsageError, match="another process writes this log"):
        RequestLog(tmp_path / "log")


def test_a_full_disk_fails_no_request_is_told_once_and_tears_no_line(server, tmp_path):
    """The limit on the size of a file is what a full disk is: a write that is cut short, and then none at all."""
    code = """
import resource, signal, sys
from pathlib import Path
from pipeline.client import Client, RequestLog
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
with RequestLog(Path(sys.argv[2]), share=1) as log, Client(sys.argv[1], "tiny", log=log) as client:
    answered = len(client.classify(["good"] * 50))
    full = log.written
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    client.classify(["good"])
    print(answered, full, log.written, log.lost)
"""
    command = [sys.executable, "-c", code, server.grpc_url, str(tmp_path / "log")]
    result = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    answered, full, written, lost = map(int, result.stdout.split())
    assert (answered, written + lost, written - full) == (50, 51, 1)
    assert 0 < full < 50
    assert len(lines_of(tmp_path / "log")) == written
    assert len(re.findall(r"cannot be written", result.stderr)) == 1


def test_a_folder_that_went_away_loses_rows_and_no_request(tmp_path, caplog):
    folder = tmp_path / "folder"
    folder.mkdir()
    with RequestLog(folder / "log", share=1, max_bytes=1) as log:
        log.write("m", "1", b"yes", GOOD)
        (folder / "log").unlink()
        folder.rmdir()
        with caplog.at_level(logging.WARNING):
            log.write("m", "1", b"yes", GOOD)
            log.write("m", "1", b"yes", GOOD)
        assert (log.written, log.lost) == (1, 2)
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": 1.5}, "wanted 0 to 1, got 1.5"),
        ({"texts": "salted"}, "wanted hashed or plain, got salted"),
        ({"key": b"short"}, "wanted 16 to 64 bytes, got 5"),
        ({"max_bytes": 0}, "at least one byte"),
        ({"keep": 0}, "one older file"),
    ],
)
def test_an_option_out_of_range_is_refused(options, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        RequestLog(tmp_path / "log", **options)
    assert not (tmp_path / "log").exists()


def test_a_file_that_cannot_be_written_is_refused_at_once(tmp_path):
    with pytest.raises(UsageError, match="cannot be written: No such file or directory"):
        RequestLog(tmp_path / "no folder" / "log")
