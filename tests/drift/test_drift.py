import dataclasses
import json
import os
import re
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from pipeline.commands import main
from pipeline.drift import drift
from pipeline.drift.requests import Request
from pipeline.run_directory import RunDirectory
from tests.drift.logs import answered, drawn, hashed, line, said, write_log

WORD = re.compile(r"\w+")
MEASURES = ["length", "unknown", "confidence", "label", "invalid"]


@pytest.fixture(scope="module")
def run(exported_run: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run of this module's own, into which every test writes its drift.json."""
    import shutil

    path = tmp_path_factory.mktemp("drift") / exported_run.path.name
    shutil.copytree(exported_run.path, path)
    return RunDirectory.open(path)


@pytest.fixture(scope="module")
def held_out(run: RunDirectory) -> list[Request]:
    return answered(run)


def ask(run: RunDirectory, *words: object) -> Result:
    return CliRunner().invoke(main, ["drift", str(run.path), *map(str, words)])


def record_of(run: RunDirectory, *words: object) -> dict:
    result = ask(run, *words, "--json")
    assert result.exit_code in (0, 3), result.stderr
    record = json.loads(result.stdout)
    assert record == json.loads((run / "drift.json").read_text())
    assert bool(record["drifted"]) == (result.exit_code == 3)
    return record


def measures_of(record: dict) -> dict[str, dict]:
    return {measure["name"]: measure for measure in record["measures"]}


@pytest.mark.parametrize("seed", range(5))
def test_requests_like_the_held_out_rows_are_no_drift(run, held_out, tmp_path, seed) -> None:
    record = record_of(run, write_log(tmp_path / "requests.jsonl", run, drawn(held_out, 300, seed)))
    assert record["drifted"] == []
    assert [measure["name"] for measure in record["measures"]] == MEASURES
    assert record["requests"] == 300
    assert record["first"] == "2026-01-31T12:00:00+00:00"
    assert record["last"] == "2026-01-31T16:59:00+00:00"


def longer(request: Request) -> Request:
    return said(request, f"{request.text} {request.text}")


def in_strange_words(request: Request) -> Request:
    return said(request, WORD.sub("zzz", str(request.text), count=2))


def of_one_class(request: Request) -> Request:
    return dataclasses.replace(request, label=1 if request.size % 10 else 0)


def less_sure(request: Request) -> Request:
    return dataclasses.replace(request, confidence=0.5 + (float(request.confidence or 0) - 0.5) / 4)


def sometimes_broken(request: Request) -> Request:
    return request if request.size % 9 else Request(None, None, None, request.size, "\ufffd")


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (longer, "length"),
        (in_strange_words, "unknown"),
        (of_one_class, "label"),
        (less_sure, "confidence"),
        (sometimes_broken, "invalid"),
    ],
)
def test_each_shift_raises_its_own_measure_and_no_other(run, held_out, tmp_path, change, name) -> None:
    log = write_log(tmp_path / "requests.jsonl", run, map(change, drawn(held_out, 1000)))
    result = ask(run, log)
    assert result.exit_code == 3
    assert [line.split()[0].strip(",") for line in result.stdout.splitlines() if line.endswith("drift")] == [name]
    assert result.stderr.startswith(f"pipeline: {run.path}: drifted: {name}. See ")


def test_a_limit_is_the_callers_but_never_below_chance(run, held_out, tmp_path) -> None:
    log = write_log(tmp_path / "requests.jsonl", run, map(longer, drawn(held_out, 1000)))
    value = measures_of(record_of(run, log))["length"]["value"]
    assert record_of(run, log, "--psi", value + 0.01)["drifted"] == []
    assert record_of(run, log, "--psi", value - 0.01)["drifted"] == ["length"]
    same = write_log(tmp_path / "same.jsonl", run, drawn(held_out, 300))
    assert record_of(run, same, "--psi", 0, "--unknown", 0)["drifted"] == []


def test_lengths_are_those_of_the_training_split_and_answers_those_of_the_held_out_rows(
    run, held_out, tmp_path
) -> None:
    measures = measures_of(record_of(run, write_log(tmp_path / "requests.jsonl", run, held_out)))
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert measures["length"]["reference"] == "training split"
    assert measures["length"]["reference_rows"] > 3 * len(held_out)
    assert measures["label"]["reference_rows"] == len(held_out)
    predicted = np.sum([np.sum(evaluation[name]["confusion"], axis=0) for name in ("validation", "test")], axis=0)
    assert [known for _, known, _ in measures["label"]["bins"]] == pytest.approx(predicted / predicted.sum())
    for name in ("unknown", "confidence"):
        assert measures[name]["expected"] == pytest.approx(measures[name]["found"])
    for name in ("confidence", "label"):
        assert measures[name]["value"] == 0
    assert measures["confidence"]["ks"] == [0, 1]


def test_the_length_of_hashed_texts_is_their_bytes_and_their_words_are_said_to_be_unmeasured(
    run, held_out, tmp_path
) -> None:
    log = hashed(write_log(tmp_path / "requests.jsonl", run, map(longer, drawn(held_out, 500))))
    record = record_of(run, log)
    assert record["drifted"] == ["length"]
    assert measures_of(record)["length"]["unit"] == "mean bytes"
    assert list(record["unmeasured"]) == ["unknown"]
    assert "unknown         not measured: the log holds 0 texts of 500; wanted 100" in ask(run, log).stdout


def test_of_a_log_of_which_a_part_is_hashed_the_plain_texts_give_the_words(run, held_out, tmp_path) -> None:
    plain = write_log(tmp_path / "plain.jsonl", run, map(in_strange_words, drawn(held_out, 150)))
    secret = hashed(write_log(tmp_path / "hashed.jsonl", run, drawn(held_out, 150)))
    record = record_of(run, plain, secret)
    assert record["drifted"] == ["unknown"]
    assert measures_of(record)["unknown"]["rows"] == 150
    assert measures_of(record)["length"]["unit"] == "mean bytes"


DAMAGED = [
    ('{"time": "2026-', "not JSON"),
    ("[1, 2]", "not a JSON object"),
    ("{}", "no proper 'model'"),
    ("\udcff", "not JSON"),
    ("[" * 100_000, "not JSON"),
]
WRONG = [
    ("time", "yesterday"),
    ("time", None),
    ("time", "9999-12-31T23:59:59-23:00"),
    ("time", "0001-01-01T00:00:00+23:00"),
    ("time", "1969-12-31T23:59:59+00:00"),
    ("valid", "yes"),
    ("label", "neither"),
    ("probability", 1.5),
    ("probability", float("nan")),
    ("bytes", "many"),
    ("bytes", -1),
    ("bytes", 10**30),
    ("text", "half \ud83d"),
    ("text", 3),
    ("version", 1),
    ("probabilities", []),
]


@pytest.mark.parametrize(("text", "reason"), DAMAGED, ids=lambda value: str(value)[:20])
def test_a_damaged_line_is_counted_and_the_next_one_read(run, held_out, tmp_path, text, reason) -> None:
    log = write_log(tmp_path / "requests.jsonl", run, drawn(held_out, 200))
    log.write_bytes(text.encode("utf-8", "surrogateescape") + b"\n" + log.read_bytes())
    record = record_of(run, log)
    assert record["requests"] == 200
    assert record["damaged"] == {"lines": 1, "first": [f"{log}: line 1: {reason}"]}
    assert f"left out: 1 damaged lines ({log}: line 1: {reason})" in ask(run, log).stdout


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_a_line_with_a_wrong_value_is_damaged(run, held_out, tmp_path, key, value) -> None:
    log = write_log(tmp_path / "requests.jsonl", run, drawn(held_out, 200))
    log.write_text(log.read_text() + json.dumps(line(run, held_out[0]) | {key: value}) + "\n")
    record = record_of(run, log)
    assert record["damaged"]["lines"] == 1
    assert key in record["damaged"]["first"][0]


def test_a_log_that_is_mostly_damaged_is_refused_in_one_line(run, held_out, tmp_path) -> None:
    log = write_log(tmp_path / "requests.jsonl", run, drawn(held_out, 200))
    log.write_text(log.read_text() + "{]\n" * 20)
    result = ask(run, log)
    assert result.exit_code == 1
    assert "20 of 220 lines are damaged; allowed 5%" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_file_that_is_no_log_at_all_is_not_read_to_its_end(run, tmp_path) -> None:
    (tmp_path / "picture.png").write_bytes(b"\x89\n" * 10_000)
    result = ask(run, tmp_path / "picture.png")
    assert result.exit_code == 1
    assert "1,000 of 1,000 lines are damaged" in result.stderr


@pytest.mark.parametrize("count", [0, 1, 99])
def test_too_few_requests_are_not_judged(run, held_out, tmp_path, count) -> None:
    result = ask(run, write_log(tmp_path / "requests.jsonl", run, drawn(held_out, count)))
    assert result.exit_code == 1
    assert f"{count} requests of opinions; wanted at least 100" in result.stderr


def test_what_is_left_of_valid_rows_must_be_enough_too(run, held_out, tmp_path) -> None:
    broken = [Request(None, None, None, 3)] * 60
    record = record_of(run, write_log(tmp_path / "requests.jsonl", run, [*drawn(held_out, 60), *broken]))
    assert record["drifted"] == ["invalid"]
    assert list(record["unmeasured"]) == ["length", "unknown", "confidence", "label"]


def test_the_log_of_another_model_is_refused_unless_it_is_asked_for(run, held_out, tmp_path) -> None:
    log = write_log(tmp_path / "requests.jsonl", run, drawn(held_out, 200), model="moods")
    result = ask(run, log)
    assert result.exit_code == 2
    assert "no request of opinions; the log has moods version 1 (200). Say with --model" in result.stderr
    assert record_of(run, log, "--model", "moods")["model"] == "moods"


def test_requests_of_other_models_and_versions_are_left_out_and_named(run, held_out, tmp_path) -> None:
    ours = write_log(tmp_path / "ours.jsonl", run, drawn(held_out, 200), version="2")
    older = write_log(tmp_path / "older.jsonl", run, map(longer, drawn(held_out, 200)))
    canary = write_log(tmp_path / "canary.jsonl", run, drawn(held_out, 50), model="opinions.candidate")
    result = ask(run, ours, older, canary)
    assert result.exit_code == 2
    assert "is one at most. Say which with --model-version" in result.stderr
    record = record_of(run, ours, older, canary, "--model-version", "2")
    assert record["drifted"] == []
    assert record["versions"] == ["2"]
    assert record["others"] == {"opinions version 1": 200, "opinions.candidate version 1": 50}


def test_answers_in_other_classes_are_another_models(run, held_out, tmp_path) -> None:
    log = write_log(tmp_path / "requests.jsonl", run, held_out, probabilities={"praise": 1.0}, label="praise")
    result = ask(run, log)
    assert result.exit_code == 2
    assert f"{log}: line 1: opinions answers with other classes than the run's, such as 'blame'" in result.stderr


def test_frames_have_lengths_answers_and_no_words(verified_feature_run, copy_of, tmp_path) -> None:
    run = copy_of(verified_feature_run)
    requests = answered(run)
    record = record_of(run, write_log(tmp_path / "same.jsonl", run, drawn(requests, 300)))
    assert record["drifted"] == []
    assert [measure["name"] for measure in record["measures"]] == [name for name in MEASURES if name != "unknown"]
    assert record["unmeasured"] == {}
    assert measures_of(record)["length"]["unit"] == "mean frames"
    longer = [dataclasses.replace(request, size=2 * request.size) for request in drawn(requests, 300)]
    assert record_of(run, write_log(tmp_path / "longer.jsonl", run, longer))["drifted"] == ["length"]
    log = write_log(tmp_path / "texts.jsonl", run, requests, bytes=3, text="abc")
    log.write_text(log.read_text().replace('"frames"', '"steps"'))
    assert "was asked for bytes; the run's model takes frames" in ask(run, log).stderr


def test_frames_of_a_file_are_given_to_the_runs_model(verified_feature_run, copy_of, tmp_path) -> None:
    run = copy_of(verified_feature_run)
    generator = np.random.default_rng(1)
    lengths = generator.integers(3, 25, 150)
    frames = generator.normal(0, 50, (int(lengths.sum()), 2)).astype(np.float32)
    frames[0] = np.nan
    np.savez(tmp_path / "noise.npz", features=frames, lengths=lengths)
    measures = measures_of(record_of(run, tmp_path / "noise.npz"))
    assert not measures["length"]["is_drift"]
    assert measures["label"]["is_drift"] or measures["confidence"]["is_drift"]
    assert measures["invalid"]["found"] == pytest.approx(1 / 150)
    np.savez(tmp_path / "wide.npz", features=np.zeros((300, 3), np.float32), lengths=np.full(100, 3))
    assert "got 3 numbers a frame; the run's model takes 2" in ask(run, tmp_path / "wide.npz").stderr
    (tmp_path / "texts.csv").write_text("text\nabc\n")
    assert "texts.csv: got text; the run's model takes features" in ask(run, tmp_path / "texts.csv").stderr


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_texts_of_a_file_get_the_answers_that_a_log_would_hold(run, held_out, tmp_path, suffix) -> None:
    texts = [str(request.text) for request in drawn(held_out, 200)]
    rows = [json.dumps({"review": text}, ensure_ascii=False) for text in texts]
    if suffix == ".csv":
        rows = ["review", *(f'"{text}"' for text in texts)]
    (tmp_path / f"texts{suffix}").write_text("\n".join(rows))
    asked = record_of(run, tmp_path / f"texts{suffix}", "--column", "review")
    logged = record_of(run, write_log(tmp_path / "requests.log", run, drawn(held_out, 200)))
    assert asked["measures"] == logged["measures"]
    assert (asked["versions"], asked["first"]) == ([], None)


def test_bad_rows_of_a_file_are_damaged_and_texts_that_are_not_unicode_invalid(run, held_out, tmp_path) -> None:
    rows = [json.dumps({"text": request.text}) for request in drawn(held_out, 120)]
    rows += [json.dumps({"text": "half \ud83d"}), '{"text": null}', '{"text": 3}', "{]"]
    (tmp_path / "texts.jsonl").write_text("\n".join(rows))
    record = record_of(run, tmp_path / "texts.jsonl")
    assert record["requests"] == 122
    assert measures_of(record)["invalid"]["found"] == pytest.approx(1 / 122)
    assert [text.rpartition(": ")[2] for text in record["damaged"]["first"]] == ["text is not a string", "not JSON"]


def test_windows_of_time_show_when_it_began_and_the_last_one_counts(run, held_out, tmp_path) -> None:
    before, after = drawn(held_out, 1800), map(longer, drawn(held_out, 150))
    log = write_log(tmp_path / "requests.jsonl", run, [*before, *after])  # one a minute from noon on
    assert record_of(run, log)["drifted"] == []
    record = record_of(run, log, "--window", "3h")
    assert record["drifted"] == ["length"]
    windows = record["windows"]
    assert [window["from"] for window in windows][:2] == ["2026-01-31 12:00", "2026-01-31 15:00"]
    assert [window["requests"] for window in windows] == [180] * 10 + [150]
    assert [window["measures"]["length"]["is_drift"] for window in windows] == [False] * 10 + [True]
    assert "2026-02-01 18:00         150     * " in ask(run, log, "--window", "3h").stdout


def test_a_window_of_too_few_requests_is_shown_and_not_judged(run, held_out, tmp_path) -> None:
    log = write_log(tmp_path / "requests.jsonl", run, [*drawn(held_out, 1200), *map(longer, drawn(held_out, 99))])
    record = record_of(run, log, "--window", "1200")
    assert record["drifted"] == []
    assert [window["from"] for window in record["windows"]] == ["request 1", "request 1,201"]
    assert record["windows"][1] == {"from": "request 1,201", "requests": 99, "measures": {}}


def test_a_rotated_log_is_read_from_its_oldest_file(run, held_out, tmp_path) -> None:
    log = write_log(tmp_path / "all", run, [*drawn(held_out, 150), *map(longer, drawn(held_out, 150))])
    lines = log.read_text().splitlines(keepends=True)
    for number, name in enumerate(("requests.jsonl.2", "requests.jsonl.1", "requests.jsonl")):
        (tmp_path / name).write_text("".join(lines[100 * number : 100 * (number + 1)]))
    record = record_of(run, *sorted(tmp_path.glob("requests.jsonl*")), "--window", "150")
    assert [Path(file["file"]).name for file in record["files"]] == [
        "requests.jsonl.2",
        "requests.jsonl.1",
        "requests.jsonl",
    ]
    assert [window["measures"]["length"]["is_drift"] for window in record["windows"]] == [False, True]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["no/such.jsonl"], 2, "no/such.jsonl: no such file"),
        (["no/such.csv"], 2, "no/such.csv: no such file"),
        (["LOG", "--window", "1y"], 2, "--window 1y: wanted a time such as 30m, 6h, 1d or 2w, or a number of requests"),
        (["LOG", "--window", "0"], 2, "--window 0: wanted"),
        (["TEXTS", "--window", "1d"], 1, "rows of a file have no time. Give --window a number of requests"),
        (["LOG", "--window", "1"], 2, "--window: more than 400 windows"),
        (["TEXTS", "--column", "review"], 2, "no column 'review'"),
        (["LOG", "--data", "no/such"], 2, "no/such: not a prepared data set"),
        ([], 2, "Missing argument 'LOG...'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_errors_are_one_line_and_say_what_to_do(run, held_out, tmp_path, words, code, message) -> None:
    write_log(tmp_path / "LOG", run, drawn(held_out, 500))
    (tmp_path / "TEXTS.csv").write_text("text\n" + "abc\n" * 200)
    places = {"LOG": tmp_path / "LOG", "TEXTS": tmp_path / "TEXTS.csv"}
    result = ask(run, *(places.get(word, word) for word in words))
    assert result.exit_code == code
    assert message in result.stderr


def test_a_run_that_was_not_exported_says_what_to_do(trained_run, held_out, tmp_path) -> None:
    log = write_log(tmp_path / "requests.jsonl", trained_run, drawn(held_out, 200))
    result = ask(trained_run, log)
    assert result.exit_code == 1
    assert "model.onnx: missing. Make it with `pipeline export` first" in result.stderr


def test_a_time_without_a_zone_is_utc(run, held_out, tmp_path) -> None:
    log = write_log(tmp_path / "requests.jsonl", run, drawn(held_out, 120), time="2026-01-31T12:00:00")
    assert record_of(run, log)["last"] == "2026-01-31T12:00:00+00:00"


def test_a_log_comes_through_a_pipe(run, held_out, tmp_path) -> None:
    content = write_log(tmp_path / "requests.jsonl", run, drawn(held_out, 200)).read_bytes()
    reader, writer = os.pipe()

    def feed() -> None:
        with os.fdopen(writer, "wb") as file:
            file.write(content)

    feeding = threading.Thread(target=feed)
    feeding.start()
    assert record_of(run, f"/dev/fd/{reader}")["requests"] == 200
    feeding.join()
    os.close(reader)


def test_what_is_kept_does_not_grow_with_the_log(run, held_out, tmp_path) -> None:
    peaks = []
    for count in (5_000, 20_000):
        log = write_log(tmp_path / f"{count}.jsonl", run, drawn(held_out, count))
        tracemalloc.start()
        record = drift(run, [str(log)])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert record["requests"] == count
    assert peaks[1] < 1.2 * peaks[0]
