import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.attack import attack
from pipeline.commands import main
from pipeline.errors import RunError, UsageError
from pipeline.reference import Reference
from pipeline.run_directory import RunDirectory
from tests.test_typos import distance


@pytest.fixture(scope="module")
def attacked(trained_run: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    import shutil

    path = tmp_path_factory.mktemp("attacked") / trained_run.path.name
    shutil.copytree(trained_run.path, path)
    attack(RunDirectory.open(path))
    return RunDirectory.open(path)


def test_each_typo_costs_accuracy(attacked: RunDirectory) -> None:
    record = json.loads((attacked / "attack.json").read_text())
    one, two = (row["accuracy"] for row in record["typos"])
    assert record["clean_accuracy"] > one >= two
    assert [row["typos"] for row in record["typos"]] == [1, 2]


def test_accuracy_falls_along_epsilon_from_the_clean_one(attacked: RunDirectory) -> None:
    record = json.loads((attacked / "attack.json").read_text())
    accuracies = [row["accuracy"] for row in record["epsilon"]]
    assert record["epsilon"][0] == {"epsilon": 0.0, "accuracy": record["clean_accuracy"]}
    assert accuracies == sorted(accuracies, reverse=True)
    assert accuracies[-1] < accuracies[0]


def test_examples_are_that_many_edits_away_and_really_misclassified(attacked: RunDirectory) -> None:
    examples = json.loads((attacked / "attack.json").read_text())["examples"]
    reference = Reference.load(attacked)
    assert reference.tokenizer is not None
    assert examples
    for example in examples:
        assert distance(example["text"], example["attacked"]) == example["typos"]
        answers = reference.probabilities(reference.tokenizer.encode([example["text"], example["attacked"]])).argmax(1)
        before, after = (reference.signature.classes[answer] for answer in answers)
        assert (before, after) == (example["label"], example["predicted"])
        assert before != after


def test_the_same_seed_attacks_the_same_rows(attacked: RunDirectory) -> None:
    assert attack(attacked, rows=20, seed=3) == attack(attacked, rows=20, seed=3)
    assert attack(attacked, rows=20, seed=3)["rows"] == 20


def test_frames_are_attacked_along_the_gradient_alone(verified_feature_run: RunDirectory, copy_of) -> None:
    record = attack(copy_of(verified_feature_run))
    assert record["typos"] == record["examples"] == []
    assert record["epsilon"][-1]["accuracy"] < record["clean_accuracy"]


def test_the_command_prints_a_table_or_json(attacked: RunDirectory) -> None:
    table = CliRunner().invoke(main, ["attack", str(attacked.path), "--rows", "30"])
    assert table.exit_code == 0
    for part in ("none", "1 typo ", "2 typos", "ε = 0.5", "30 rows of the test split, seed 0"):
        assert part in table.stdout
    printed = CliRunner().invoke(main, ["attack", str(attacked.path), "--rows", "30", "--json"])
    assert json.loads(printed.stdout) == json.loads((attacked / "attack.json").read_text())


def test_what_cannot_be_attacked_is_named(attacked: RunDirectory, tmp_path: Path, copy_of) -> None:
    with pytest.raises(UsageError, match="--rows 0: wanted at least 1"):
        attack(attacked, rows=0)
    damaged = copy_of(attacked)
    (damaged / "weights.safetensors").write_bytes(b"")
    with pytest.raises(RunError, match="weights.safetensors: changed"):
        attack(damaged)
