"""`pipeline bench serve`, and the texts it asks with, against the real ONNX Runtime and the real Triton."""

import json
import sys
from collections import Counter

import numpy as np
import pytest
from click.testing import CliRunner

from pipeline.bench.serving import Offline, OnnxTarget, Server, TritonTarget, read_texts
from pipeline.bench.serving.chosen import Chosen
from pipeline.bench.serving.client import Clients
from pipeline.bench.serving.measure import measured
from pipeline.bench.serving.stage import bench_serving
from pipeline.commands import main
from pipeline.dataset import Dataset
from pipeline.errors import UsageError
from pipeline.serve import running
from tests.serve.tiny_models import feature_config, feature_model, place, text_config, text_model

WORDS = ("awful", "dull", "fine", "good", "great")
TEXTS = [f"{one} {other} {number}" for number in range(3) for one in WORDS for other in WORDS]
DATA = ("--data", "{texts}", "--column", "review")


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "texts.csv"
    path.write_text("review\n" + "\n".join(TEXTS) + "\n")
    return path


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    root = tmp_path_factory.mktemp("served") / "model_repository"
    place(root, text_config("words"), text_model().SerializeToString())
    place(root, feature_config("frames"), feature_model().SerializeToString())
    return root


@pytest.fixture(scope="module")
def server(repository):
    with running(repository) as server:
        yield server


def bench(*options):
    return CliRunner().invoke(main, ["bench", "serve", *map(str, options)])


def test_all_scenarios_over_grpc_with_a_page(server, texts, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["pipeline.bench.serving.measure"], "_MOST_TRIALS", 4)
    page = tmp_path / "bench.html"
    options = ("--data", texts, "--column", "review", "--seconds", "0.2", "--p99-ms", "2000", "--page", page, "--json")
    result = bench("--url", server.grpc_url, "--model", "words", *options)
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["texts"] == len(TEXTS)
    found = {one["scenario"]["name"]: one for one in record["measurements"]}
    assert list(found) == ["SingleStream", "MultiStream", "Server", "Offline"]
    for one in found.values():
        assert one["is_valid"], one["faults"]
        assert one["checked"] == one["samples"] > 0
        assert one["samples_per_second"] == pytest.approx(one["samples"] / one["seconds"])
        rows = sum(int(rows) * batches for rows, batches in one["server"]["rows_of_batches"].items())
        assert rows == pytest.approx(one["samples"], abs=32)  # Triton counts a batch a moment after it answers
    assert 1 <= found["SingleStream"]["server"]["mean_batch"] < 2  # `serve` asks too, now and then
    assert found["Offline"]["server"]["mean_batch"] > 2
    assert any(trial["is_valid"] for trial in found["Server"]["trials"])
    html = page.read_text()
    assert html.count("<svg") == 4 * 2 + 3  # latencies and batches; of the trials p99, times and batches
    assert "://" not in html


def test_a_repository_is_served_and_a_bound_that_is_not_kept_exits_with_3(repository, texts):
    options = ("--data", texts, "--column", "review", "--seconds", "0.2", "--scenario", "server", "--rate", "50")
    result = bench("--repository", repository, "--model", "words", *options, "--p99-ms", "0.01")
    assert result.exit_code == 3, result.output
    for part in ("Server ", "not valid", "rows in a batch", "embedded Triton", "75 texts"):
        assert part in result.stdout
    assert result.stderr.splitlines()[-1].endswith("ms, wanted at most 0.01 ms.")


def test_http_gives_the_same_answers_as_grpc(server):
    drawn = [text.encode() for text in TEXTS] + [b"\xff not text", b""]
    with Clients(TritonTarget(server.grpc_url, "words"), drawn) as clients:
        labels = clients.answers()
    with Clients(TritonTarget(server.http_url, "words", "http"), drawn, labels) as clients:
        assert clients.answers() == labels
        for scenario in (Server(50, 2000, 0.5), Offline(0.1)):
            found = measured(clients, scenario)
            assert found.is_valid, found.faults
            assert found.checked == found.samples
    assert len(Counter(labels)) > 1


def test_what_a_target_answers_is_held_against_its_reference(tmp_path):
    target, reference = tmp_path / "0.onnx", tmp_path / "1.onnx"
    for seed, path in enumerate((target, reference)):
        path.write_bytes(text_model(seed).SerializeToString())
    chosen = Chosen(OnnxTarget(target, instances=2), OnnxTarget(reference))
    texts = [text.encode() for text in TEXTS]
    record = bench_serving(chosen, texts, ["server", "offline"], rate=100, p99_ms=2000, seconds=0.2)
    for found in record["measurements"]:
        assert not found["is_valid"]
        assert 0 < found["wrong"] < found["checked"] == found["samples"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "give one of TARGET (a model file or a run), --repository or --url; got none."),
        (("model.onnx", "--url", "127.0.0.1:1"), "got TARGET and --url."),
        (("model.onnx",), "nothing to ask with: give --data"),
        (("model.onnx", "--data", "{texts}"), "no column 'text'"),
        (("model.onnx", *DATA, "--page", "nowhere/page.html"), "--page nowhere/page.html: no such folder."),
        (("nowhere.onnx", *DATA), "nowhere.onnx: no such model file or run."),
        (("--url", "127.0.0.1", "--model", "words", *DATA), "--url 127.0.0.1: wanted HOST:PORT"),
        (("--url", "127.0.0.1:8001", *DATA), "name a model with --model."),
        (("--url", "https://127.0.0.1:8000", "--model", "words", *DATA), "give --ca"),
        (("--repository", "{repository}", *DATA), "name one model with --model; there are: frames, words."),
    ],
)
def test_bad_options_give_one_line(options, words, texts, repository):
    result = bench(*(option.format(texts=texts, repository=repository) for option in options))
    assert result.exit_code == 2
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_file_of_few_texts_is_refused_where_a_request_wants_more(tmp_path):
    model, few = tmp_path / "words.onnx", tmp_path / "few.csv"
    model.write_bytes(text_model().SerializeToString())
    few.write_text("review\ngood\n")
    result = bench(model, "--data", few, "--column", "review", "--seconds", "0.1", "--scenario", "multi-stream")
    assert result.exit_code == 2
    assert "multi-stream asks with 8 texts at once; there are 1." in result.stderr
    result = bench(model, "--data", few, "--column", "review", "--seconds", "0.1", "--scenario", "single-stream")
    assert result.exit_code == 0, result.output


def test_a_model_of_frames_is_refused(server, texts):
    result = bench("--url", server.grpc_url, "--model", "frames", "--data", texts, "--column", "review")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == (
        "pipeline: frames: takes features; `pipeline bench serve` asks with texts only."
    )


def test_texts_are_drawn_evenly_none_twice_and_the_same_each_time(texts):
    drawn = read_texts(texts, "review", count=30, seed=1)
    assert len(set(drawn)) == 30
    assert set(drawn) < {text.encode() for text in TEXTS}
    assert drawn == read_texts(texts, "review", count=30, seed=1) != read_texts(texts, "review", count=30, seed=2)
    assert sorted(read_texts(texts, "review", count=10**6)) == sorted(text.encode() for text in TEXTS)
    counts = Counter(text for seed in range(300) for text in read_texts(texts, "review", count=15, seed=seed))
    assert np.ptp(list(counts.values())) < 60  # each 60 times on average, with a deviation of 7


def test_a_row_that_cannot_be_read_is_not_asked_with(tmp_path):
    (tmp_path / "texts.jsonl").write_text('{"text": "good"}\n{"text": 7}\n{"text": "bad"}\n')
    assert sorted(read_texts(tmp_path / "texts.jsonl")) == [b"bad", b"good"]


def test_texts_of_a_prepared_data_set_are_those_of_its_test_split(text_data):
    assert sorted(read_texts(text_data, count=10**6)) == sorted(
        map(str.encode, Dataset(text_data).split("test").texts())
    )


def test_frames_are_no_texts(feature_data, tmp_path):
    np.savez(tmp_path / "frames.npz", features=np.zeros((4, 2), np.float32), lengths=[4])
    for source in (feature_data, tmp_path / "frames.npz"):
        with pytest.raises(UsageError, match="asks with texts"):
            read_texts(source)
