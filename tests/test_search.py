import json
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline import recipe
from pipeline.commands import main
from pipeline.errors import PipelineError, UsageError
from pipeline.train import train
from pipeline.train.rate_finder import Tried, find_rate, suggested_rate
from pipeline.train.search import Trial, read_space
from pipeline.train.search import search as search_settings
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


def test_a_search_that_is_gone_on_with_tries_something_else(text_data: Path, tmp_path: Path) -> None:
    _, first = search(text_data, tmp_path, 2)
    _, second = search(text_data, tmp_path, 2)
    rates = [line.split("train.learning_rate=")[1].split()[0] for line in (*first, *second)]
    assert len(set(rates)) == 4


def test_bounds_are_numbers_of_their_key_and_may_depend_on_other_keys(tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text('["model.dropout"]\nlow = 0\nhigh = 0.5\n["augment.typos"]\nlow = 0\nhigh = 1\n')
    assert [type(one).__name__ for one in read_space(path).values()] == ["FloatDistribution"] * 2
    path.write_text('["train.nesterov"]\nchoices = [true, false]\n')
    assert read_space(path)["train.nesterov"].choices == (True, False)


def test_a_trial_stands_for_what_training_would_keep(text_data: Path, tmp_path: Path) -> None:
    """Pre-trained where the recipe says so, and judged by the epoch that is chosen, not by the luckiest one."""
    settings = (*QUICK_TEXT, "pretrain.texts=train", "train.epochs=6", "train.patience=6", "train.select=loss")
    path = tmp_path / "space.toml"
    path.write_text('["train.learning_rate"]\nchoices = [0.05]\n')
    best = search_settings(text_data, None, settings, path, tmp_path / "study.db", trials=1)
    run = train(text_data, recipe.load(None, (*settings, *best.settings)), tmp_path)
    history = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    kept = [record for record in history if record["is_best"]][-1]
    assert best.accuracy == kept["validation_accuracy"]


def test_a_trial_that_fails_says_why_and_the_search_goes_on(text_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text('["train.nesterov"]\nchoices = [true]\n')
    told: list[Trial] = []
    with pytest.raises(PipelineError, match="no trial came to its end"):
        search_settings(text_data, None, QUICK_TEXT, path, tmp_path / "s.db", trials=2, tried=told.append)
    assert len(told) == 2
    assert "train.nesterov: wanted train.optimizer=sgd" in told[0].reason


def test_a_study_that_cannot_be_gone_on_with_is_named(text_data: Path, tmp_path: Path) -> None:
    search(text_data, tmp_path, 1)
    other = tmp_path / "other.toml"
    other.write_text('["model.pooling"]\nchoices = ["last"]\n')
    with pytest.raises(UsageError, match=r"other.toml: not the space that .*study.db was searched in"):
        search_settings(text_data, None, QUICK_TEXT, other, tmp_path / "study.db")
    (tmp_path / "no.db").write_text("no database" * 100)
    for study in (tmp_path / "no.db", tmp_path / "none" / "study.db"):
        with pytest.raises(PipelineError, match=f"{study}: no file that a study can be kept in"):
            search_settings(text_data, None, QUICK_TEXT, other, study)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x", "no space to search"),
        ("", "names no key to vary"),
        ('["train.learning_rate"]\nlow = 1\n', "wanted low and high, or choices"),
        ('["train.learning_rat"]\nlow = 1\nhigh = 2\n', "no such key; did you mean learning_rate"),
        ('["model.pooling"]\nchoices = ["max", "sum"]\n', "wanted one of max, mean"),
        ('["model.dropout"]\nlow = 0.1\nhigh = 1.5\n', "wanted at most 0.95"),
        ('["model.dropout"]\nlow = 0.5\nhigh = 0.1\n', "`low <= high` must hold"),
        ('["model.dropout"]\nlow = 0\nhigh = 0.5\nlog = true\n', "`low > 0` must hold"),
        ('["model.layers"]\nlow = 1\nhigh = 4\nstep = 2\n', "wanted low and high, or choices, got .*'step': 2"),
        ('["model.pooling"]\nlow = "max"\nhigh = "mean"\n', "wanted low and high, or choices"),
        ('["model.pooling"]\nchoices = "max"\n', "wanted low and high, or choices"),
    ],
)
def test_a_space_that_cannot_be_searched_is_named(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "space.toml").write_text(content)
    with pytest.raises(UsageError, match=message):
        read_space(tmp_path / "space.toml")


def test_a_rising_rate_lowers_the_loss(text_data: Path) -> None:
    tried = find_rate(text_data, recipe.load(None, (*QUICK_TEXT, "train.batch_size=16")), steps=60)
    rates, losses = [one.rate for one in tried], [one.loss for one in tried]
    assert rates == sorted(rates)
    assert min(losses) < losses[0]
    assert 1e-6 < suggested_rate(tried) <= 0.1  # whether the highest, 1, breaks so small a model, the processor decides


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
