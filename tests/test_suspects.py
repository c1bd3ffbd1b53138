import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline import recipe
from pipeline.commands import main
from pipeline.data.split import split
from pipeline.errors import DataError, UsageError
from pipeline.train.suspects import find_suspects
from tests.conftest import QUICK_TEXT

LEARNED = (*QUICK_TEXT, "train.epochs=12", "train.learning_rate=0.01", "train.patience=12")


@pytest.fixture(scope="module")
def spoilt_data(text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    """The opinions, every twentieth with the other label; and which."""
    folder = tmp_path_factory.mktemp("spoilt")
    with text_file.open(newline="") as file:
        rows = list(csv.DictReader(file))
    spoilt = set()
    for number, row in enumerate(rows):
        if number % 20 == 7:
            row["label"] = "blame" if row["label"] == "praise" else "praise"
            spoilt.add(row["text"])
    with (folder / "spoilt.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["text", "label"])
        writer.writeheader()
        writer.writerows(rows)
    return split(str(folder / "spoilt.csv"), folder / "spoilt"), spoilt


@pytest.mark.parametrize("typos", [0.0, 0.05])
def test_labels_that_were_spoilt_come_first(spoilt_data: tuple[Path, set[str]], typos: float) -> None:
    data, spoilt = spoilt_data
    accuracies: list[float] = []
    found = find_suspects(
        data,
        recipe.load(None, (*LEARNED, f"augment.typos={typos}")),
        folds=3,
        fold_done=lambda _, accuracy: accuracies.append(accuracy),
    )
    first = [suspect.text in spoilt for suspect in found[:20]]
    assert sum(first) >= 18
    doubts = [suspect.label_probability for suspect in found]
    assert doubts == sorted(doubts)
    assert all(suspect.label != suspect.predicted for suspect in found)
    assert len(accuracies) == 3
    assert min(accuracies) > 0.8


def test_the_command_prints_json_lines(spoilt_data: tuple[Path, set[str]]) -> None:
    data, _ = spoilt_data
    options = [word for setting in LEARNED for word in ("--set", setting)]
    result = CliRunner().invoke(main, ["suspects", "--data", str(data), "--folds", "2", "--most", "5", *options])
    assert result.exit_code == 0, result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(rows) == 5
    assert set(rows[0]) == {"row", "label", "predicted", "label_probability", "predicted_probability", "text"}


def test_frames_have_suspects_too(feature_data: Path) -> None:
    found = find_suspects(feature_data, recipe.load(None, ("model.hidden_size=8", "train.epochs=2")), folds=2)
    assert found
    assert found[0].text is None


def test_folds_that_cannot_be_dealt_are_named(feature_data: Path) -> None:
    with pytest.raises(UsageError, match="--folds 1: wanted at least 2"):
        find_suspects(feature_data, recipe.load(), folds=1)
    with pytest.raises(DataError, match="training rows, and 1000 folds"):
        find_suspects(feature_data, recipe.load(), folds=1000)
