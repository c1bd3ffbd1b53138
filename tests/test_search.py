import json
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline import recipe
from pipeline.commands import main
from pipeline.errors import UsageError
from pipeline.train.rate_finder import Tried, find_rate, suggested_rate
from pipeline.train.search import read_space
from tests.conftest import QUICK_TEXT

OPTIONS = [word for setting in QUICK_TEXT for word in ("--set", setting)]
SPACE = '["train.learning_rate"]\nlow = 1e-7\nhigh = 0.02\nlog = true\n["model.pooling"]\nchoices = ["max", "mean"]\n'


def search(data: Path, folder: Path, trials: int) -> tuple[str, list[str]]:
    (folder / "space.toml").write_text(SPACE)
    files = ["--space", str(folder / "space.toml"), "--study", str(folder / "study.db")]
    result = CliRunner().invoke(main, ["search", "--data", str(data), *files, "--trials", str(trials), *OPTIONS])
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr.splitlines()


def test_a_search_finds_settings_and_is_gone_on_with(text_data: Path, tmp_path: Path) -> None:
    best, tried = search(text_data, tmp_path, 4)
    assert [line.partition(":")[0] for line in tried] == [f"trial {n}" for n in range(4)]
    words = best.split()
    assert words[0::2] == ["--set", "--set"]
    keys = recipe.load(None, tuple(words[1::2]))
    assert 1e-7 <= keys.train.learning_rate <= 0.02
    _, more = search(text_data, tmp_path, 1)
    assert [line.partition(":")[0] for line in more] == ["trial 4"]
    with sqlite3.connect(tmp_path / "study.db") as database:
        assert database.execute("select count(*) from trials").fetchone() == (5,)
    database.close()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x", "no space to search"),
        ("", "names no key to vary"),
        ('["train.learning_rate"]\nlow = 1\n', "wanted low and high, or choices"),
        ('["train.learning_rat"]\nlow = 1\nhigh = 2\n', "no such key; did you mean learning_rate"),
        ('["model.pooling"]\nchoices = ["max", "sum"]\n', "wanted one of max, mean"),
        ('["model.dropout"]\nlow = 0.1\nhigh = 1.5\n', "wanted at most 0.95"),
    ],
)
def test_a_space_that_cannot_be_searched_is_named(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "space.toml").write_text(content)
    with pytest.raises(UsageError, match=message):
        read_space(tmp_path / "space.toml")


def test_a_rising_rate_lowers_the_loss_and_then_breaks_it(text_data: Path) -> None:
    tried = find_rate(text_data, recipe.load(None, (*QUICK_TEXT, "train.batch_size=16")), steps=60)
    rates, losses = [one.rate for one in tried], [one.loss for one in tried]
    assert rates == sorted(rates)
    assert min(losses) < losses[0]
    assert 1e-6 < suggested_rate(tried) < 0.1


def test_the_suggestion_is_a_tenth_of_the_best() -> None:
    assert suggested_rate([Tried(0.001, 0.6), Tried(0.01, 0.4), Tried(0.1, 0.5)]) == pytest.approx(0.001)


def test_the_rates_are_plotted_or_printed(text_data: Path) -> None:
    plotted = CliRunner().invoke(main, ["rate", "--data", str(text_data), "--steps", "20", *OPTIONS])
    assert plotted.exit_code == 0
    lines = plotted.stdout.splitlines()
    assert "█" in lines[0]
    assert lines[-1].startswith("--set train.learning_rate=")
    printed = CliRunner().invoke(main, ["rate", "--data", str(text_data), "--steps", "20", "--json", *OPTIONS])
    assert set(json.loads(printed.stdout)) == {"tried", "suggested"}
