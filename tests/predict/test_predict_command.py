"""`pipeline predict` against a real Triton."""

import csv
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from pipeline.client import Client
from pipeline.commands import main
from tests.client.certificates import Authority


def run(url, *arguments, stdin=None):
    return CliRunner().invoke(main, ["predict", *arguments, "--url", url], input=stdin)


def start(url, *arguments):
    command = [sys.executable, "-m", "pipeline", "predict", *arguments, "--url", url]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_arguments_are_answered_as_a_table(url):
    result = run(url, "tiny", "a good film", "an awful film")
    with Client(url, "tiny") as client:
        labels = [prediction.label for prediction in client.classify(["a good film", "an awful film"])]
    assert (result.exit_code, result.stderr) == (0, "")
    header, *lines = result.stdout.splitlines()
    assert header.split() == ["label", "probability", "text"]
    assert [line.split()[0] for line in lines] == labels
    assert [line.split(maxsplit=2)[2] for line in lines] == ["a good film", "an awful film"]


def test_standard_input_is_answered_as_json_lines_in_order(url):
    texts = [f"good {number}" for number in range(700)]
    result = run(url, "tiny", stdin="\n".join(texts))
    assert [json.loads(line)["text"] for line in result.stdout.splitlines()] == texts


def test_a_csv_file_is_answered_as_csv(url, tmp_path):
    path = tmp_path / "reviews.csv"
    path.write_text('review,stars\n"good, great",5\nawful,1\n')
    result = run(url, "tiny", "--input", str(path), "--column", "review", "--format", "csv")
    records = list(csv.DictReader(result.stdout.splitlines()))
    assert [record["text"] for record in records] == ["good, great", "awful"]
    assert {record["valid"] for record in records} == {"true"}


def test_sequences_of_a_file_are_answered(url, tmp_path):
    path = tmp_path / "frames.npz"
    np.savez(path, features=np.ones((3, 5, 3), np.float32), lengths=[5, 1, 3])
    result = run(url, "frames", "--input", str(path), "--batch-size", "2")
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(answer["row"], answer["frames"]) for answer in answers] == [(1, 5), (2, 1), (3, 3)]
    assert {answer["valid"] for answer in answers} <= {True, None}


@pytest.mark.parametrize("form", ["jsonl", "csv", "table"])
def test_the_rows_before_a_bad_one_are_answered_before_it_is_named(url, tmp_path, form):
    path = tmp_path / "reviews.jsonl"
    path.write_text('{"text": "good"}\n{"text": "awful"}\nnot JSON\n{"text": "fine"}\n')
    result = run(url, "tiny", "--input", str(path), "--format", form)
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == (2 if form == "jsonl" else 3)
    assert "good" in result.stdout
    assert "awful" in result.stdout
    reason = f"{path}: line 3: malformed: not JSON. Mend the row, or use --on-bad-row=skip."
    assert result.stderr == f"pipeline: {reason}\n"


def test_bad_rows_are_skipped_on_request_and_counted(url, tmp_path):
    path = tmp_path / "reviews.jsonl"
    path.write_text('{"text": "good"}\nnot JSON\n{"text": 5}\n{"text": "fine"}\n')
    result = run(url, "tiny", "--input", str(path), "--on-bad-row", "skip")
    assert [json.loads(line)["row"] for line in result.stdout.splitlines()] == [1, 4]
    named = "line 2: malformed: not JSON; line 3: text is not a string"
    assert (result.exit_code, result.stderr) == (0, f"{path}: skipped 2 bad row(s): {named}\n")


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_bytes_that_are_not_text_have_no_label(url, form):
    result = run(url, "tiny", "--format", form, stdin=b"good\n\xff\xfe\n")
    lines = result.stdout.splitlines()
    answer = json.loads(lines[1]) if form == "jsonl" else list(csv.DictReader(lines))[1]
    assert (answer["row"], answer["valid"]) == ((2, False) if form == "jsonl" else ("2", "false"))
    assert not answer["label"]
    assert not answer["probability"]


def test_bytes_that_are_not_text_are_marked(url):
    result = run(url, "tiny", "--input", "-", "--format", "table", stdin=b"good\n\xff\xfe\n")
    assert result.stdout.splitlines()[2].startswith("not text            -  ")


def test_an_argument_that_is_not_text_is_marked(url):
    process = start(url, "tiny", os.fsdecode(b"\xff\xfe"))
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, b"")
    assert b"not text" in output


def test_a_closed_pipe_ends_quietly(url, tmp_path):
    path = tmp_path / "many.txt"
    path.write_text("good\n" * 20_000)
    process = start(url, "tiny", "--input", str(path))
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    process.stdin.close()
    process.wait(timeout=60)


def test_an_interrupt_ends_in_one_line(url):
    process = start(url, "tiny", "--batch-size", "1", "--in-flight", "1")
    process.stdin.write(b"good\n")
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["text"] == "good"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors.split()) == (1, [b"Aborted!"])


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["huge", "good"], 1, "no model huge; there are: frames, tiny, tiny.candidate."),
        (["tiny", "good", "--model-version", "7"], 1, "tiny has no version 7; there are: 1."),
        (["tiny", "good", "--input", "x.csv"], 2, "got both TEXT and --input"),
        (["tiny", "--input", "missing.csv"], 2, "missing.csv: no such file"),
        (["tiny", "good", "--shadow", "--canary", "0.5"], 2, "got both --canary and --shadow"),
        (["tiny", "good", "--ca", "missing.pem"], 2, "missing.pem: cannot be read: No such file"),
        (["tiny", "good", "--log", "missing/log"], 2, "missing/log: cannot be written: No such file"),
        (["frames", "good"], 1, "row 0: got bytes, wanted numbers of shape (frames, 3)"),
    ],
)
def test_a_question_that_cannot_be_answered_ends_in_one_line(url, arguments, code, message):
    result = run(url, *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("pipeline: ")


def test_a_server_that_is_not_there_ends_in_one_line():
    result = run("127.0.0.1:1", "tiny", "good")
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert "Start one with `pipeline serve`" in result.stderr


TEXTS = [f"{word} film {number}" for number in range(50) for word in ("good", "awful", "dull", "great")]


def labels(result):
    return [json.loads(line)["label"] for line in result.stdout.splitlines()]


def test_a_shadow_is_compared_on_standard_error_and_changes_no_answer(url):
    stdin = "\n".join(TEXTS)
    alone, shadowed = run(url, "tiny", stdin=stdin), run(url, "tiny", "--shadow", stdin=stdin)
    assert shadowed.stdout == alone.stdout
    *_, line = shadowed.stderr.splitlines()
    assert line.startswith("candidate: ")
    assert "label(s) differ" in line
    assert "Stopped: " in line


def test_a_canary_answers_its_share(url):
    stdin = "\n".join(TEXTS)
    candidate = run(url, "tiny.candidate", stdin=stdin)
    assert labels(run(url, "tiny", "--canary", "1", stdin=stdin)) == labels(candidate)
    result = run(url, "tiny", "--canary", "0", stdin=stdin)
    assert labels(result) == labels(run(url, "tiny", stdin=stdin)) != labels(candidate)
    assert result.stderr.startswith("candidate: 0 request(s), 0 failed; production median ")


def test_a_log_holds_hashed_texts_unless_plain_ones_are_asked_for(url, tmp_path, monkeypatch):
    monkeypatch.setenv("PIPELINE_LOG_KEY", "the key of these tests")
    for name, options in (("hashed", []), ("again", []), ("plain", ["--log-texts", "plain"])):
        result = run(url, "tiny", "--log", str(tmp_path / name), "--log-share", "1", *options, stdin="good\nawful")
        assert (result.exit_code, result.stderr) == (0, "")
    hashed, again, plain = (
        [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
        for name in ("hashed", "again", "plain")
    )
    assert sorted(line["text"] for line in plain) == ["awful", "good"]
    assert all("text" not in line for line in hashed)
    assert {line["text_hash"] for line in hashed} == {line["text_hash"] for line in again}


def test_what_is_sent_may_be_compressed(url):
    text = "good film " * 1000
    assert run(url, "tiny", "--compression", "gzip", text).stdout == run(url, "tiny", text).stdout


def test_a_certificate_that_does_not_fit_ends_in_one_line(url, tmp_path):
    authority = Authority(tmp_path, "ours")
    process = start(url, "tiny", "good", "--ca", str(authority.path))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.decode().splitlines() == [
        f"pipeline: {url}: the server does not speak TLS on this port. Leave out the certificates, or correct it."
    ]
