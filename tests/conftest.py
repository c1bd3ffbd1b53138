"""Runs that many tests look at and none may change: copy one before damaging it."""

import csv
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from pipeline import recipe
from pipeline.cache import cache_folder
from pipeline.data.split import split
from pipeline.evaluate import evaluate
from pipeline.export import export, export_variants
from pipeline.publish import publish
from pipeline.run_directory import RunDirectory
from pipeline.train import train
from pipeline.verify import verify

settings.register_profile("any machine", deadline=None)  # 200 ms pass on a busy one
settings.load_profile("any machine")

QUICK_TEXT = ("tokenizer.max_tokens=32", "model.embedding_size=16", "model.hidden_size=16", "train.epochs=3")
QUICK_FEATURES = (
    "model.hidden_size=16",
    "model.dropout=0.1",
    "train.epochs=12",
    "train.batch_size=16",
    "train.learning_rate=0.01",
)
SUBJECTS = ("the film", "this book", "her song", "my dinner", "that phone", "l'été", "电影", "the plot")
PRAISE = ("is lovely", "was a delight", "is great!", "made me happy", "很好", "works wonderfully", "is superb :)")
BLAME = ("is awful", "was a bore", "is bad...", "made me sad", "不好", "never works", "is dreadful :(")
ASIDES = ("", "really", "to be honest,", "as everybody knows", "so I think", "2 out of 3 say so:", "ÇA")


def made_ready(run: RunDirectory) -> RunDirectory:
    """Evaluate, export and verify a trained run."""
    evaluate(run)
    export(run)
    report = verify(run)
    assert report.passed, [check.detail for check in report.checks if not check.passed]
    return run


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the long files, so that in the end no worker is left alone with one."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache in which no earlier version of the code left anything, but for the packages that were downloaded."""
    folder = tmp_path_factory.mktemp("cache")
    for package in cache_folder().glob("[0-9a-f]" * 64):
        (folder / package.name).symlink_to(package)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIPELINE_CACHE", str(folder))
        yield


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV of short opinions; aside × subject × opinion × aside gives several lengths and no duplicate."""
    path = tmp_path_factory.mktemp("text") / "opinions.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for opening in ASIDES:
            for subject in SUBJECTS:
                for label, opinions in (("praise", PRAISE), ("blame", BLAME)):
                    writer.writerows([f"{opening} {subject} {opinion}".strip(), label] for opinion in opinions)
    return path


@pytest.fixture(scope="session")
def text_data(text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return split(str(text_file), tmp_path_factory.mktemp("data") / "opinions")


@pytest.fixture(scope="session")
def feature_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Waves of three frequencies, two numbers a frame, 3 to 24 frames."""
    folder = tmp_path_factory.mktemp("waves")
    generator = np.random.default_rng(0)
    lengths = generator.integers(3, 25, 240)
    labels = np.arange(240) % 3
    frames = [
        np.stack([np.sin((1 + label) * np.arange(length) / 2), np.cos((1 + label) * np.arange(length) / 2)], 1)
        for label, length in zip(labels, lengths, strict=True)
    ]
    noise = generator.normal(0, 0.1, (int(lengths.sum()), 2))
    features = (np.concatenate(frames) + noise).astype(np.float32) * 5 + 3
    names = np.array(["slow", "middling", "fast"])[labels]
    np.savez(folder / "waves.npz", features=features, lengths=lengths, labels=names)
    return split(str(folder / "waves.npz"), folder / "waves")


@pytest.fixture(scope="session")
def trained_run(text_data: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A trained text run, and nothing more."""
    return train(text_data, recipe.load(None, QUICK_TEXT), tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="session")
def exported_run(trained_run: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A trained, evaluated and exported text run."""
    path = tmp_path_factory.mktemp("exported") / trained_run.path.name
    shutil.copytree(trained_run.path, path)
    run = RunDirectory.open(path)
    evaluate(run)
    export(run)
    return run


@pytest.fixture(scope="session")
def verified_run(exported_run: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A verified text run."""
    path = tmp_path_factory.mktemp("verified") / exported_run.path.name
    shutil.copytree(exported_run.path, path)
    run = RunDirectory.open(path)
    report = verify(run)
    assert report.passed, [check.detail for check in report.checks if not check.passed]
    return run


@pytest.fixture(scope="session")
def variant_run(exported_run: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A verified text run that has every variant that passes its gate on this machine; int8 does on all."""
    path = tmp_path_factory.mktemp("variants") / exported_run.path.name
    shutil.copytree(exported_run.path, path)
    run = RunDirectory.open(path)
    export_variants(run)
    report = verify(run)
    assert report.passed, [check.detail for check in report.checks if not check.passed]
    return run


@pytest.fixture(scope="session")
def verified_feature_run(feature_data: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A verified run over feature sequences."""
    return made_ready(train(feature_data, recipe.load(None, QUICK_FEATURES), tmp_path_factory.mktemp("feature_runs")))


@pytest.fixture(scope="session")
def published_repository(
    verified_run: RunDirectory, verified_feature_run: RunDirectory, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A repository with the models ``opinions`` (text) and ``waves`` (features), version 1 of each."""
    repository = tmp_path_factory.mktemp("published") / "model_repository"
    publish(verified_run, repository)
    publish(verified_feature_run, repository)
    return repository


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[RunDirectory], RunDirectory]:
    """Copy a run, so that a test may damage it."""

    def copy(run: RunDirectory) -> RunDirectory:
        path = tmp_path / "copies" / run.path.name
        shutil.copytree(run.path, path)
        return RunDirectory.open(path)

    return copy
