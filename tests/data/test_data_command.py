import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from pipeline.commands import main

HEAVY = ("numpy", "torch", "onnxruntime", "pyarrow", "tritonclient")


@pytest.fixture
def reviews(tmp_path) -> str:
    rows = [f"review {i},{'good' if i % 3 else 'bad'}" for i in range(60)]
    (tmp_path / "reviews.csv").write_text("\n".join(["text,label", *rows]))
    return str(tmp_path / "reviews.csv")


def test_split_prints_the_folder_and_nothing_else_on_stdout(reviews, tmp_path):
    result = CliRunner().invoke(main, ["data", "split", reviews, "--to", str(tmp_path / "set")])
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'set'}\n")
    assert "text: 60 rows, 2 classes" in result.stderr
    assert "file: 60 rows read; left out 0 bad" in result.stderr


def test_split_leaves_another_data_set_alone_unless_told_to_replace_it(reviews, tmp_path):
    split = ["data", "split", reviews, "--to", str(tmp_path / "set")]
    assert CliRunner().invoke(main, split).exit_code == 0
    refused = CliRunner().invoke(main, [*split, "--seed", "1"])
    assert (refused.exit_code, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    assert "holds another prepared data set, which runs may depend on, and is left alone" in refused.stderr
    assert CliRunner().invoke(main, split).exit_code == 0
    assert CliRunner().invoke(main, [*split, "--seed", "1", "--replace"]).exit_code == 0


@pytest.mark.parametrize(
    ("options", "exit_code", "message"),
    [
        (["--fractions", "0.8,0.2"], 2, "--fractions 0.8,0.2: wanted three numbers, such as 0.8,0.1,0.1"),
        (["--fractions", "0.8,0.1,0.2"], 2, "they sum to 1.1; wanted 1"),
        (["--text", "txt"], 2, "no column 'txt'; did you mean 'text'?"),
        (["--test", "nowhere.csv"], 2, "nowhere.csv: no such file."),
        (["--label", "text"], 1, "and 3 splits need one each"),
    ],
)
def test_split_answers_a_mistake_in_one_line_with_its_exit_code(reviews, tmp_path, options, exit_code, message):
    result = CliRunner().invoke(main, ["data", "split", reviews, "--to", str(tmp_path / "set"), *options])
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert result.stderr.startswith("pipeline: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [["fetch", "vowels"], ["split", "a.csv", "--to", "set"]])
def test_a_negative_seed_is_a_mistake_of_usage(arguments):
    result = CliRunner().invoke(main, ["data", *arguments, "--seed", "-1"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Invalid value for '--seed': -1 is not in the range x>=0." in result.stderr


def test_the_help_shows_an_example_on_its_own_line():
    result = CliRunner().invoke(main, ["data", "split", "--help"])
    assert "\n  pipeline data split reviews.csv --to data/reviews" in result.stdout


def test_fetch_answers_an_unknown_name_with_the_nearest():
    result = CliRunner().invoke(main, ["data", "fetch", "vowel"])
    assert result.exit_code == 2
    assert result.stderr.startswith("pipeline: vowel: no such data set. Did you mean vowels?")


def test_list_shows_every_set_with_its_package_and_licence():
    result = CliRunner().invoke(main, ["data", "list"])
    assert "vowels     features      640 rows   9 classes" in result.stdout
    assert "from aeon==1.6.0 (BSD-3-Clause)" in result.stdout
    sets = json.loads(CliRunner().invoke(main, ["data", "list", "--json"]).stdout)
    assert [named["name"] for named in sets] == ["sentiment", "trec", "vowels", "motions", "digits"]


def test_listing_loads_nothing_heavy():
    code = (
        "import sys\nfrom pipeline.commands import main\n"
        "try: main(['data', 'list'])\nexcept SystemExit: pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr == "[]\n"
