import dataclasses
import re
from pathlib import Path

import pytest

from pipeline import recipe
from pipeline.errors import UsageError
from pipeline.model import LSTMClassifier, Shape
from pipeline.repository.config import model_config
from pipeline.signature import make_signature
from pipeline.train.optimizer import ClassifierOptimizer


def test_every_bad_key_is_reported_at_once_with_its_path_and_the_nearest_name(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(
        "[train]\nbatchsize = 3\nepochs = 0\n[modle]\nlayers = 2\n[model]\npooling = 'sum'\ndropout = 'x'\n"
    )
    with pytest.raises(UsageError) as raised:
        recipe.load(str(path), ("train.patience", "tokenizer.lowercase=1"))
    message = str(raised.value)
    for part in (
        "7 bad key(s)",
        "train.batchsize: no such key; did you mean batch_size?",
        "train.epochs: wanted at least 1, got 0",
        "modle: no such section; did you mean model?",
        "model.pooling: wanted one of max, mean, last, attention, ",
        "model.dropout: wanted a number, got 'x'",
        "--set train.patience: wanted SECTION.KEY=VALUE",
        "tokenizer.lowercase: wanted true or false, got 1",
    ):
        assert part in message


def test_a_resolved_recipe_reads_back_as_itself(tmp_path: Path) -> None:
    keys = recipe.load(None, ("train.learning_rate=1", 'publish.name=a"b\\c', "model.bidirectional=false"))
    (tmp_path / "resolved.toml").write_text(recipe.dumps(keys))
    assert recipe.load(str(tmp_path / "resolved.toml")) == keys


def test_settings_win_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("[train]\nepochs = 3\n")
    assert recipe.load(str(tmp_path / "r.toml"), ("train.epochs=5",)).train.epochs == 5


@pytest.mark.parametrize(
    "setting",
    [
        "train.seed=100000000000000000000",
        "train.learning_rate=1e300",
        "train.learning_rate=0",
        "train.clip_norm=0",
        "publish.max_queue_size=5000000000",
        "publish.instances=5000000000",
        "publish.max_queue_delay_microseconds=-1",
        "model.dropout=nan",
        "train.weight_decay=inf",
    ],
)
def test_a_number_that_would_fail_later_is_refused_at_once(setting: str) -> None:
    with pytest.raises(UsageError, match=r"wanted at (least|most)"):
        recipe.load(None, (setting,))


def test_every_largest_and_smallest_number_makes_an_optimiser_and_a_configuration() -> None:
    for bound in ("least", "most"):
        settings = [
            f"{section.name}.{key.name}={key.metadata[bound]}"
            for section in dataclasses.fields(recipe.Recipe)
            for key in dataclasses.fields(getattr(recipe.Recipe(), section.name))
            if key.metadata[bound] is not None and key.name != "swa_from"  # not beside ema_decay
        ]
        keys = recipe.load(None, tuple(settings))
        ClassifierOptimizer(LSTMClassifier(recipe.ModelKeys(), Shape(classes=2, feature_size=1)), keys.train)
        model_config("name", make_signature("text", ("a", "b")), keys.publish)


@pytest.mark.parametrize("name", recipe.names())
def test_every_recipe_of_the_package_loads(name: str) -> None:
    assert name.startswith(recipe.load(name).data.source)


@pytest.mark.parametrize(
    ("name", "message"),
    [("no-such", "no such recipe. The package has"), ("no-such.toml", "cannot be read: No such file")],
)
def test_a_recipe_that_is_not_there_is_named(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        recipe.load(name)


def test_what_is_not_toml_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("[train\n")
    with pytest.raises(UsageError, match=r"r.toml: not TOML: .*line 1"):
        recipe.load(str(tmp_path / "r.toml"))


def test_the_readme_lists_every_key_with_its_default() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    rows = re.findall(r"^\| `([a-z]+\.[a-z_]+)` \| `(.*?)` \| (.*) \|$", readme, re.MULTILINE)
    assert rows == recipe.table()
