"""What a person at a terminal meets: help, one-line errors, exit codes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipeline.commands import COMMANDS, main
from pipeline.commands.evaluate import table
from pipeline.run_directory import RunDirectory
from tests.conftest import QUICK_TEXT

HEAVY = ("torch", "onnx", "onnxruntime", "numpy", "pyarrow", "tritonclient", "jinja2")
README = Path(__file__).parents[1] / "README.md"


def invoke(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.mark.parametrize("words", [["--help"], *([name, "--help"] for name in COMMANDS)], ids=" ".join)
def test_help_answers_without_loading_anything_heavy(words: list[str]) -> None:
    script = (
        "import sys; from pipeline.commands import main\n"
        f"try: main({words!r})\n"
        "except SystemExit as end: assert not end.code\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "assert not loaded, loaded"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: ")
    assert "\b" not in done.stdout
    assert "\\b" not in done.stdout


def test_every_command_has_an_example_in_its_help() -> None:
    for name in COMMANDS:
        printed = invoke(name, "--help").stdout
        assert f"pipeline {name}" in printed.split("\n", 1)[1], name


def test_the_page_of_commands_is_what_the_program_says() -> None:
    docs = README.parent / "docs"
    made = subprocess.run([sys.executable, docs / "make_commands.py"], capture_output=True, text=True, check=True)
    assert (docs / "commands.md").read_text() == made.stdout, "run `make docs`"


def test_the_readme_was_finished() -> None:
    assert "@@" not in README.read_text()


def test_the_readme_names_every_command() -> None:
    text = README.read_text()
    assert [name for name in COMMANDS if f"`pipeline {name}`" not in text] == []


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["train", "--data", "no/such"], 2, "no/such: not a prepared data set. Make one with `pipeline data"),
        (["train"], 2, "no data: give --data DIR, or data.source in the recipe"),
        (["train", "nosuch"], 2, "nosuch: no such recipe. The package has"),
        (["train", "--set", "train.epoch=3"], 2, "train.epoch: no such key; did you mean epochs?"),
        (["evaluate", "no/such"], 2, "no/such: no such run directory"),
        (["export", "."], 2, "not a run directory: it has no run.json"),
        (["verify", "no/such"], 2, "no/such: no such run directory"),
        (["publish", "no/such"], 2, "no/such: no such run directory"),
        (["report", "no/such"], 2, "no/such: no such run directory"),
        (["serve", "no/such"], 2, "no/such: "),
        (["predict", "sentiment", "x", "--url", "127.0.0.1:9"], 1, "no Triton server answers"),
        (["data", "fetch", "sentimnt"], 2, "sentimnt"),
        (["data", "inspect", "no/such.csv"], 2, "no/such.csv"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_gets_one_line_and_the_documented_exit_code(
    words: list[str], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke(*words)
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_run_goes_from_a_recipe_to_a_published_version_and_the_next_to_the_next(
    text_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = [word for setting in QUICK_TEXT for word in ("--set", setting)]
    for version in (1, 2):
        result = invoke("run", "--data", text_data, *settings)
        assert result.exit_code == 0, result.output
        assert result.stdout == f"model_repository/opinions/{version}\n"
    assert "majority" in result.stderr
    assert (tmp_path / "runs" / "opinions-002" / "report.html").is_file()


def test_evaluate_prints_the_baseline_beside_the_accuracy(verified_run: RunDirectory, copy_of) -> None:
    run = copy_of(verified_run)
    printed = invoke("evaluate", run.path).stdout
    figures = json.loads(invoke("evaluate", run.path, "--json").stdout)
    assert f"{figures['test']['accuracy']:.2%}" in printed
    assert f"{figures['test']['majority_baseline']:.2%}" in printed


def test_evaluate_finds_a_data_set_that_was_moved(verified_run: RunDirectory, copy_of, tmp_path: Path) -> None:
    run = copy_of(verified_run)
    info = json.loads((run / "run.json").read_text())
    here = Path(info["dataset"])
    info["dataset"] = str(tmp_path / "gone")
    (run / "run.json").write_text(json.dumps(info))
    lost = invoke("evaluate", run.path)
    assert lost.exit_code == 1
    assert "Say where it is now with --data DIR" in lost.stderr
    assert invoke("evaluate", run.path, "--data", here).exit_code == 0


def test_verify_prints_json_alone_on_stdout(verified_run: RunDirectory, copy_of) -> None:
    run = copy_of(verified_run)
    result = invoke("verify", run.path, "--json")
    assert json.loads(result.stdout)["passed"] is True
    assert "pass  cpu " in result.stderr


def test_a_full_standard_output_ends_with_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "pipeline", "data", "list"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_many_classes_are_listed_without_a_matrix_wider_than_the_terminal(verified_run: RunDirectory) -> None:
    split = json.loads((verified_run / "evaluation.json").read_text())["test"]
    many = {**split, "classes": split["classes"] * 20, "confusion": [[1] * 40] * 40}
    assert max(map(len, table({"validation": many, "test": many}).splitlines())) <= 80


def test_a_full_disk_ends_training_with_one_line(text_data: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(tmp_path)], check=False).returncode:
        pytest.skip("this sandbox does not mount")
    try:
        settings = [word for setting in QUICK_TEXT for word in ("--set", setting)]
        result = invoke("train", "--data", text_data, "--runs", tmp_path / "runs", *settings)
        assert result.exit_code == 1
        assert re.search(r"weights.safetensors: cannot be written: No space left on device", result.stderr)
        assert "Traceback" not in result.output
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
