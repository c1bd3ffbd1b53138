"""Clients in processes of their own."""

from dataclasses import replace

import pytest

from pipeline.bench.serving import MultiStream, Server, highest_rate, measure
from pipeline.bench.serving.client import Clients
from pipeline.bench.serving.measure import bisected, measured
from pipeline.bench.serving.measurement import Measurement
from pipeline.errors import ServerError, UsageError
from tests.bench.synthetic import Dying, OneAtATimeTarget, Unreachable

TEXTS = [str(number).encode() for number in range(40)]
LABELS = [text.decode() for text in TEXTS]


def test_bisection_finds_the_capacity_of_a_single_server():
    target = OneAtATimeTarget(0.01)  # 100 a second
    found = highest_rate(target, TEXTS, p99_ms=150, expected=LABELS, seconds=0.8, tolerance=0.15, start=130)
    assert found.is_valid
    assert found.latency_ms["p99"] <= 150
    assert 70 <= found.scenario["rate"] <= 120
    sustained = {trial["rate"] for trial in found.trials if trial["is_valid"]}
    failed = {trial["rate"] for trial in found.trials} - sustained
    assert max(sustained) == found.scenario["rate"]
    assert min(failed) - max(sustained) <= 0.15 * min(failed)


def test_a_wrong_answer_ends_the_search_for_a_rate():
    found = highest_rate(OneAtATimeTarget(0.001), TEXTS, expected=["another"] * 40, seconds=0.2, start=50)
    assert not found.is_valid
    assert len(found.trials) == 1
    assert found.wrong == found.samples


def test_a_wrong_answer_at_a_rate_that_is_tried_again_is_not_forgotten(monkeypatch):
    sustained = Measurement("planted", {}, 10, 1.0, 10.0, {"p99": 1.0}, [], True, [], 0, 0, 0, 10, {}, "VALID")
    late = replace(sustained, is_valid=False, faults=["p99 99.0 ms, wanted at most 50 ms"])
    wrong = replace(late, wrong=1, faults=["1 of 10 answers wrong (text 3: got 'b', wanted 'a')"])
    planted = iter([sustained, late, wrong])
    monkeypatch.setitem(bisected.__globals__, "measured", lambda *_: next(planted))
    found = bisected(None, p99_ms=50, seconds=0.1, start=100)
    assert (found.is_valid, found.wrong) == (False, 1)
    assert [trial["rate"] for trial in found.trials] == [100, 150, 150]


def test_two_clients_share_a_rate_and_one_is_a_single_caller():
    with Clients(OneAtATimeTarget(0.001), TEXTS, LABELS, processes=2) as clients:
        server = measured(clients, Server(200, 1000, 1.0))
        stream = measured(clients, MultiStream(4, 0.1))
    assert server.client["processes"] == 2
    assert 130 <= server.samples <= 270
    assert server.client["ceiling_per_second"] > 200
    assert stream.client["processes"] == 1
    assert server.is_valid
    assert stream.is_valid


@pytest.mark.parametrize(
    ("target", "words"),
    [(Unreachable(), "nobody: OSError: no route"), (Dying(), "dying: its client died with exit code 9")],
    ids=["unreachable", "dying"],
)
def test_a_target_that_cannot_be_asked_is_named(target, words):
    with pytest.raises(ServerError, match=words):
        measure(target, TEXTS, Server(10))


def test_every_text_wants_one_expected_label():
    with pytest.raises(UsageError, match="got 40 texts and 1 expected labels"):
        measure(Unreachable(), TEXTS, Server(10), expected=["0"])
