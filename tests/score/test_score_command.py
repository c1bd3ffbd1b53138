"""`pipeline score` as its user meets it: which model answers, what is refused, what is printed."""

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from pipeline.commands import main
from pipeline.run_directory import RunDirectory
from pipeline.score import score
from tests.score.conftest import opinions


def invoke(*words: object) -> Result:
    return CliRunner().invoke(main, ["score", *map(str, words)])


def test_workers_write_what_one_process_writes_and_print_the_folder(
    published_repository: Path, verified_run: RunDirectory, write, tmp_path: Path, here: None
) -> None:
    paths = [write(name, opinions(120)) for name in ("a.parquet", "deep/b.csv")]
    score(verified_run.path, [paths[0].parent], tmp_path / "here", shard_rows=50)
    command = [sys.executable, "-m", "pipeline", "score", published_repository / "opinions", paths[0].parent]
    words = ["--to", tmp_path / "to", "--shard-rows", "50", "--workers", "2"]
    done = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{tmp_path / 'to'}\n", "")
    for name in ("a.parquet", "deep/b.csv", "score.json"):
        assert (tmp_path / "to" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()


def test_a_variant_of_a_run_answers(variant_run: RunDirectory, write, tmp_path: Path, here: None) -> None:
    path = write("a.parquet", opinions(200))
    for variant in (None, "int8"):
        score(variant_run.path, [path], tmp_path / str(variant), variant=variant)
    full, int8 = (pq.read_table(tmp_path / name / "a.parquet").column("probability") for name in ("None", "int8"))
    assert full != int8


def test_a_terminal_sees_how_far_it_is(verified_run: RunDirectory, write, tmp_path: Path) -> None:
    ours, its = pty.openpty()
    path = write("a.csv", opinions(30))
    command = [
        sys.executable,
        "-m",
        "pipeline",
        "score",
        verified_run.path,
        path,
        "--to",
        tmp_path / "to",
        "--workers=1",
    ]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=its, check=True)
    os.close(its)
    assert b"30/30" in os.read(ours, 65536)
    os.close(ours)


def test_skipped_rows_are_named(verified_run: RunDirectory, tmp_path: Path, here: None) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "good"}\nnot JSON\n{"text": 5}\n{"text": "fine", "valid": 1}\n{"text": "bad"}\n')
    result = invoke(verified_run.path, path, "--to", tmp_path / "to", "--on-bad-row", "skip", "--json")
    assert result.exit_code == 0
    named = f"{path}: line 2: malformed: not JSON; {path}: line 3: text is not a string; {path}: line 4: has a key"
    assert result.stderr.startswith(f"skipped 3 bad row(s): {named} 'valid' already")
    assert json.loads(result.stdout)["counts"] | {"labels": {}, "named": []} == {
        "rows": 2, "not_valid": 0, "labels": {}, "skipped": 3, "named": []
    }  # fmt: skip
    assert len((tmp_path / "to" / "a.jsonl").read_text().splitlines()) == 2


def test_nothing_unverified_answers(exported_run, verified_run, copy_of, write, tmp_path: Path, here: None) -> None:
    path, to = write("a.csv", ["good"]), tmp_path / "to"
    result = invoke(exported_run.path, path, "--to", to)
    assert result.exit_code == 1
    assert "parity.json: missing. Make it with `pipeline verify` first." in result.stderr
    changed = copy_of(verified_run)
    (changed / "model.onnx").write_bytes((changed / "model.onnx").read_bytes() + b"\0")
    result = invoke(changed.path, path, "--to", to)
    assert result.exit_code == 3
    assert "model.onnx: changed since it was verified" in result.stderr
    assert not to.exists()


def test_a_published_version_that_was_changed_does_not_answer(published_repository: Path, write, tmp_path) -> None:
    version = tmp_path / "opinions" / "1"
    shutil.copytree(published_repository / "opinions" / "1", version)
    (version / "model.onnx").write_bytes(b"other")
    result = invoke(version, write("a.csv", ["good"]), "--to", tmp_path / "to")
    assert (result.exit_code, len(result.stderr.splitlines())) == (3, 1)
    assert "model.onnx: SHA-256" in result.stderr


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (
            {"a.csv": "id,review\n1,x\n"},
            2,
            "a.csv: no column 'text'. The file has 'id', 'review'. Choose with --column.",
        ),
        (
            {"a.csv": "text,label\nx,1\n"},
            2,
            "a.csv: there is a column 'label' already. Name the new ones otherwise with",
        ),
        ({"a.jsonl": '{"text": "x", "valid": 1}\n'}, 2, "a.jsonl: there is a column 'valid' already"),
        ({"a.csv": ""}, 1, "a.csv: the file is empty; wanted a header line with the column names"),
        ({"a.csv": "id,text\n1,x\n2\n"}, 1, "a.csv: line 3: malformed: wrong number of columns. Mend the row, or use"),
        ({"a.csv": 'id,text\n1,"x\n'}, 1, "a.csv: line 2: malformed: unexpected end of data. Mend the row, or use"),
        ({"a.jsonl": '{"text": "x"}\n[]\n'}, 1, "a.jsonl: line 2: malformed: not a JSON object. Mend the row, or use"),
        ({"a.parquet": "PAR1 and no more"}, 1, "a.parquet: cannot be read as Parquet ("),
        ({"a.npz": ""}, 2, "a.npz: holds features; score takes texts. Use `pipeline predict --input FILE`."),
        ({"a.xlsx": ""}, 2, "a.xlsx: unknown suffix '.xlsx'."),
        ({}, 2, "a.csv: cannot be read: No such file or directory."),
        ({"a.csv/_logs/x.csv": "", "a.csv/notes.md": ""}, 2, "a.csv: no file there ends in one of .csv, .tsv,"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_input_that_cannot_be_scored_is_one_line(
    verified_run: RunDirectory, tmp_path: Path, here: None, content: dict[str, str], code: int, message: str
) -> None:
    for name, text in content.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    path = tmp_path / (next(iter(content), "a.csv").partition("/")[0])
    result = invoke(verified_run.path, path, "--to", tmp_path / "to")
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith(f"pipeline: {tmp_path / message}")
    assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.glob("to/a.*")) == []


def test_a_link_is_read_by_its_own_suffix(verified_run: RunDirectory, write, tmp_path: Path, here: None) -> None:
    path = write("a.parquet", opinions(20))
    link = tmp_path / "links" / "a.parquet"
    link.parent.mkdir()
    link.symlink_to(path.rename(tmp_path / "0a1b2c"))  # as stores do that name a file after its content
    assert invoke(verified_run.path, link, "--to", tmp_path / "to").exit_code == 0
    assert pq.read_table(tmp_path / "to" / "a.parquet").num_rows == 20


def test_folders_that_are_called_as_files_are_descended_into(
    verified_run: RunDirectory, write, tmp_path: Path, here: None
) -> None:
    path = write("months/may.parquet/part-0.parquet", opinions(20))
    folder = path.parents[1]
    assert invoke(verified_run.path, folder, "--to", tmp_path / "to").exit_code == 0
    assert pq.read_table(tmp_path / "to" / "may.parquet" / "part-0.parquet").num_rows == 20
    (folder / "june.parquet").symlink_to(path.parent)
    result = invoke(verified_run.path, folder, "--to", tmp_path / "other")
    assert result.exit_code == 2
    assert "june.parquet: not a regular file" in result.stderr


def test_a_folder_is_not_scored_into_itself(verified_run: RunDirectory, write, tmp_path: Path) -> None:
    folder = write("a.csv", ["good"]).parent
    result = invoke(verified_run.path, folder, "--to", folder)
    assert result.exit_code == 2
    assert f"{folder}: lies in the folder of the scored files, {folder}. Choose another --to." in result.stderr


def test_a_model_that_cannot_score_is_one_line(
    verified_feature_run, published_repository: Path, write, tmp_path
) -> None:
    path, to = write("a.csv", ["good"]), tmp_path / "to"
    for model, options, message in [
        (verified_feature_run.path, [], "takes features; score takes texts"),
        (published_repository / "waves", [], "takes features; score takes texts"),
        (published_repository / "opinions", ["--variant", "int8"], "not a run, of which --variant would choose"),
        (published_repository / "opinions" / "7", [], "neither a run nor a published model"),
        (tmp_path / "nothing", [], "neither a run nor a published model"),
    ]:
        result = invoke(model, path, "--to", to, *options)
        assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)
        assert message in result.stderr
    assert not to.exists()


def test_two_files_of_one_name_are_refused(verified_run: RunDirectory, write, tmp_path: Path) -> None:
    first, second = write("a.csv", ["x"]), write("deep/a.csv", ["y"])
    result = invoke(verified_run.path, first, second, "--to", tmp_path / "to")
    assert result.exit_code == 2
    assert result.stderr == "pipeline: a.csv: 2 of the inputs have that name. Score them into different folders.\n"
