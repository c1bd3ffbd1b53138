"""The log that the client writes is the log that drift reads."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.client import Prediction, RequestLog
from pipeline.commands import main
from pipeline.drift.requests import Request
from pipeline.run_directory import RunDirectory
from tests.drift.logs import answered


def write(log: RequestLog, run: RunDirectory, request: Request, row: object) -> None:
    classes, label, confidence = run.info["classes"], request.label or 0, request.confidence or 0.0
    others = (1 - confidence) / (len(classes) - 1)
    probabilities = {name: confidence if number == label else others for number, name in enumerate(classes)}
    log.write(run.info["name"], "1", row, Prediction(classes[label], confidence, probabilities, True))


def drift(run: RunDirectory, folder: Path) -> dict:
    logs = [str(path) for path in sorted(folder.glob("requests.jsonl*"))]
    result = CliRunner().invoke(main, ["drift", str(run.path), *logs, "--json"])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("texts", ["plain", "hashed"])
def test_a_rotated_log_of_the_client_is_read_whole(exported_run, copy_of, tmp_path, texts) -> None:
    run = copy_of(exported_run)
    requests = answered(run)
    with RequestLog(tmp_path / "requests.jsonl", 1.0, texts=texts, max_bytes=10_000, keep=9) as log:
        for request in requests:
            write(log, run, request, str(request.text).encode())
        log.write(run.info["name"], "1", b"\xff", Prediction("praise", 0.5, {"praise": 0.5, "blame": 0.5}, False))
    record = drift(run, tmp_path)
    assert len(record["files"]) > 2
    assert record["requests"] == len(requests) + 1 == log.written
    assert record["damaged"]["lines"] == 0
    measures = {measure["name"]: measure for measure in record["measures"]}
    assert measures["confidence"]["ks"] == [0, 1]  # float32 to the last bit, through the log and back
    assert measures["label"]["value"] == 0
    assert measures["invalid"]["found"] == pytest.approx(1 / log.written)
    assert ("unknown" in measures) == (texts == "plain")


def test_frames_are_logged_by_their_number(verified_feature_run, copy_of, tmp_path) -> None:
    run = copy_of(verified_feature_run)
    requests = answered(run) * 3
    with RequestLog(tmp_path / "requests.jsonl", 1.0) as log:
        for request in requests:
            write(log, run, request, range(request.size))
    assert drift(run, tmp_path)["requests"] == len(requests)
