"""status: what it shows, and that nothing that is wrong escapes it."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from pipeline.release import status
from pipeline.repository.aliases import candidate_model
from tests.release.conftest import NAME
from tests.release.test_change import DAMAGES, flip

Invoke = Callable[..., Result]
CANDIDATE = candidate_model(NAME)


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_each_version_is_shown_with_its_alias_and_figures(invoke: Invoke, repository: Path) -> None:
    result = invoke("status")
    assert result.exit_code == 0, result.output
    heading, *rows = (line.split() for line in result.stdout.splitlines())
    assert heading[:5] == ["model", "version", "alias", "variant", "accuracy"]
    assert [row[:4] for row in rows] == [
        [NAME, "1", "–", "fp32"],
        [NAME, "2", "production", "fp32"],
        [NAME, "3", "candidate", "fp32"],
    ]
    manifest = json.loads((repository / NAME / "2" / "manifest.json").read_text())
    size = sum(file.stat().st_size for file in (repository / NAME / "2").iterdir())
    assert rows[1][4:] == [f"{manifest['test_accuracy']:.2%}", manifest["published"], f"{size / 1e6:.1f}", "whole"]


def test_json_alone_is_on_stdout(invoke: Invoke, repository: Path) -> None:
    DAMAGES["truncated"](repository / NAME / "1")
    result = invoke("status", NAME, "--json")
    assert result.exit_code == 3
    (model,) = json.loads(result.stdout)
    assert (model["name"], model["production"], model["candidate"]) == (NAME, 2, 3)
    assert [bool(version["faults"]) for version in model["versions"]] == [True, False, False]
    assert "1/model.onnx: SHA-256 " in result.stderr


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_of_a_version_is_named(damage: str, invoke: Invoke, repository: Path) -> None:
    DAMAGES[damage](repository / NAME / "2")
    result = invoke("status")
    assert result.exit_code == 3
    rows = result.stdout.splitlines()
    assert [row.endswith("damaged") for row in rows[1:4]] == [False, True, False]
    assert any(f"{NAME}/2" in row for row in rows[4:])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: replace(path / NAME / "config.pbtxt", "count: 2", "count: 3"), "not as version 2 makes it"),
        (lambda path: replace(path / NAME / "config.pbtxt", "versions: 2", "versions: 9"), "names version 9, which is"),
        (lambda path: os.truncate(path / NAME / "config.pbtxt", 100), "opinions/config.pbtxt: cut off or edited"),
        (lambda path: replace(path / NAME / "labels.txt", "blame\npraise", "praise\nblame"), "labels.txt: not as"),
        (lambda path: (path / NAME / "labels.txt").unlink(), "labels.txt"),
        (lambda path: (path / NAME / "labels.txt").write_bytes(b"\xff\n"), "labels.txt: not as"),
        (lambda path: replace(path / NAME / "2" / "manifest.json", "model.onnx", "m.onnx"), "lists no model.onnx"),
        (lambda path: os.truncate(path / NAME / "history.jsonl", 100), "history.jsonl: cut off or edited"),
        (lambda path: replace(path / CANDIDATE / "config.pbtxt", "versions: 3", "versions: 1"), "not as version 1"),
        (lambda path: flip(path / CANDIDATE / "3" / "model.onnx"), f"{CANDIDATE}/3/model.onnx: SHA-256"),
        (lambda path: shutil.rmtree(path / CANDIDATE / "3"), f"{CANDIDATE}/3"),
        (lambda path: shutil.rmtree(path / NAME / "3"), "names version 3, which is not there"),
    ],
)
def test_what_is_wrong_beside_the_versions_is_named(
    damage: Callable[[Path], object], message: str, invoke: Invoke, repository: Path
) -> None:
    damage(repository)
    result = invoke("status")
    assert result.exit_code == 3, result.output
    assert message in "\n".join(result.stdout.splitlines()[1:])


def test_what_is_no_model_is_told(invoke: Invoke) -> None:
    result = invoke("status", "opinion")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "opinion: no such model" in result.stderr


def test_a_server_that_does_not_answer_is_told_in_one_line(invoke: Invoke) -> None:
    result = invoke("status", "--url", "127.0.0.1:9")
    assert result.exit_code == 1
    assert result.stderr.startswith("pipeline: 127.0.0.1:9: ")
    assert len(result.stderr.splitlines()) == 1


def test_an_empty_repository_is_whole(tmp_path: Path) -> None:
    assert status(tmp_path) == []
