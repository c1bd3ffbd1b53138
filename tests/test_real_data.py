"""The promises on real data: accuracy, parity in process and over gRPC, and 64 callers of whom one is hostile."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path

import pytest

from pipeline import recipe
from pipeline.client import Client, Prediction
from pipeline.data.fetch import fetch
from pipeline.dataset import Dataset
from pipeline.errors import RequestError
from pipeline.evaluate import evaluate
from pipeline.export import export
from pipeline.publish import publish
from pipeline.run_directory import RunDirectory
from pipeline.serve import Server, running
from pipeline.train import train
from pipeline.verify import verify

pytestmark = [pytest.mark.long, pytest.mark.network]

LEAST_ACCURACY = {"sentiment": 0.8, "vowels": 0.97}
CALLERS = 64
REQUESTS = 30


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunDirectory]:
    """Each named set, trained by its own recipe, exported and verified in process."""
    folder = tmp_path_factory.mktemp("real")
    made = {}
    for name in LEAST_ACCURACY:
        data = fetch(name, folder / name)
        made[name] = train(data, recipe.load(name), folder / "runs")
        export(made[name])
    return made


@pytest.fixture(scope="module")
def server(runs: dict[str, RunDirectory], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    repository = tmp_path_factory.mktemp("served") / "model_repository"
    for run in runs.values():
        assert verify(run).passed
        publish(run, repository)
    with running(repository) as started:
        yield started


@pytest.mark.parametrize("name", LEAST_ACCURACY)
def test_the_quick_recipe_reaches_its_accuracy(name: str, runs: dict[str, RunDirectory]) -> None:
    figures = evaluate(runs[name])["test"]
    assert figures["accuracy"] >= LEAST_ACCURACY[name]


@pytest.mark.parametrize("name", LEAST_ACCURACY)
def test_the_whole_held_out_split_agrees_in_process_and_over_grpc(
    name: str, runs: dict[str, RunDirectory], server: Server
) -> None:
    report = verify(runs[name], engines=(f"grpc://{server.grpc_url}",))
    assert not report.failures
    checks = (*report.checks, *report.endpoint_checks)
    assert len({check.engine for check in checks}) == 3
    dataset = Dataset(Path(runs[name].info["dataset"]))
    held_out = len(dataset.split("validation")) + len(dataset.split("test"))
    for check in checks:
        if check.name == "held-out rows":
            assert check.measured["rows"] == held_out
            assert check.measured["max_absolute"] <= 1e-5
            assert check.measured["flips"] == 0
        if check.name in {"padded", "mixed", "shuffled", "hostile neighbours"}:
            assert check.measured["max_absolute"] <= 1e-6


def test_one_hostile_caller_among_64_changes_and_fails_nobody_elses_request(
    runs: dict[str, RunDirectory], server: Server
) -> None:
    texts = Dataset(Path(runs["sentiment"].info["dataset"])).split("test").texts(slice(0, CALLERS))
    hostile = cycle([b"\xff\xfe not text", b"good\0bad", b"", b"\0", b"good " * 100_000])

    with Client(server.grpc_url, "sentiment", timeout_seconds=120) as client:
        alone = [client.classify([text])[0] for text in texts]

        def attack() -> list[Prediction]:
            return [client.classify([next(hostile)])[0] for _ in range(REQUESTS)]

        def ask(text: str) -> list[Prediction]:
            return [client.classify([text])[0] for _ in range(REQUESTS)]

        with ThreadPoolExecutor(CALLERS) as callers:
            attacker = callers.submit(attack)
            asked = [callers.submit(ask, text) for text in texts[1:]]
            attacked = attacker.result()
            for expected, future in zip(alone[1:], asked, strict=True):
                for given in future.result():
                    assert given.label == expected.label
                    assert given.valid is True
                    for name, value in expected.probabilities.items():
                        assert given.probabilities[name] == pytest.approx(value, abs=1e-6)
    assert [prediction.valid for prediction in attacked[:5]] == [False, True, True, True, True]


def test_the_server_answers_from_the_newest_version(runs: dict[str, RunDirectory], tmp_path: Path) -> None:
    for _ in range(2):
        publish(runs["vowels"], tmp_path)
    frames = Dataset(Path(runs["vowels"].info["dataset"])).split("test").frames(slice(0, 3))
    with running(tmp_path) as server:
        with Client(server.grpc_url, "vowels", version="2") as client:
            assert len(client.classify(frames)) == 3
        with (
            Client(server.grpc_url, "vowels", version="1") as client,
            pytest.raises(RequestError, match="no version 1; there are: 2"),
        ):
            client.classify(frames)
