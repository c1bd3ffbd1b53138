"""One test of LoadGen over targets with planted speed and faults, in this process."""

import re
from contextlib import closing, nullcontext

import numpy as np
import pytest

from pipeline.bench.serving import MultiStream, Offline, Server, SingleStream, loadgen
from pipeline.bench.serving.loadgen import LoadTest
from pipeline.bench.serving.measurement import measurement, summary
from pipeline.errors import ServerError
from tests.bench.synthetic import Echo, Faulty, OneAtATime, Stalling

TEXTS = [str(number).encode() for number in range(40)]
LABELS = [text.decode() for text in TEXTS]
SCENARIOS = [SingleStream(0.1), MultiStream(4, 0.1), Server(300, 1000, 0.3), Offline(0.001)]


def load_test(connection, expected=LABELS):
    return LoadTest(connection, TEXTS, expected, warm_up_seconds=0.01)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: type(scenario).__name__)
def test_every_text_is_counted_timed_and_compared(scenario, tmp_path, monkeypatch):
    monkeypatch.setattr(loadgen.tempfile, "TemporaryDirectory", lambda **_: nullcontext(str(tmp_path)))
    outcome = load_test(Echo()).run(scenario)
    assert (outcome.errors, outcome.wrong, outcome.unsent) == (0, 0, 0)
    assert len(outcome.latencies_ms) == outcome.samples / (4 if isinstance(scenario, MultiStream) else 1)
    assert outcome.samples % len(TEXTS) == 0 or not isinstance(scenario, Offline)
    assert outcome.latencies_ms[0] > 0
    assert outcome.latencies_ms[-1] <= 1000 * outcome.seconds + 1e-6
    assert outcome.cpu_seconds > 0
    found = summary(outcome.latencies_ms)
    said = (tmp_path / "mlperf_log_summary.txt").read_text()
    for name, words in (("p50", "50.00"), ("p90", "90.00"), ("p99", "99.00"), ("p999", "99.90")):
        (nanoseconds,) = re.findall(rf"^{words} percentile latency \(ns\) *: (\d+)", said, re.MULTILINE)
        assert found[name] == pytest.approx(int(nanoseconds) / 1e6), name
    assert found["mean"] == pytest.approx(float(re.findall(r"Mean latency \(ns\) *: (\d+)", said)[0]) / 1e6, rel=1e-3)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: type(scenario).__name__)
def test_a_wrong_answer_makes_a_measurement_invalid_and_is_named(scenario):
    expected = [*LABELS[:7], "another", *LABELS[8:]]
    outcome = load_test(Echo(), expected).run(scenario)
    found = measurement("echo", scenario, [outcome], is_checked=True, ceiling=1)
    assert 0 < found.wrong < found.checked == found.samples
    assert not found.is_valid
    assert "answers wrong (text 7: got '7', wanted 'another')" in found.faults[0]


def test_whatever_a_target_raises_is_counted_and_named():
    scenario = Server(400, 1000, 0.5)
    outcome = load_test(Faulty()).run(scenario)
    found = measurement("faulty", scenario, [outcome], is_checked=True, ceiling=1)
    assert 0 < found.errors < found.samples
    assert found.checked == found.samples - found.errors
    assert not found.is_valid
    assert re.search(
        r"texts without an answer \((ValueError: planted|RuntimeError: planted too|got 0 labels)", found.faults[0]
    )


def test_a_target_that_answers_nothing_is_not_measured():
    class Silent(Echo):
        def ask(self, *_):
            raise ValueError("planted")

    for scenario in SCENARIOS:
        with pytest.raises(ServerError, match="no text is answered: ValueError: planted"):
            load_test(Silent()).run(scenario)


def test_a_stall_is_seen_by_all_who_came_meanwhile():
    """A client that waits for one answer before it sends the next would see one slow answer."""
    connection = Stalling(0.3)
    test = load_test(connection)
    test.warm_up(Server(1))
    connection.arm()
    outcome = test.run(Server(200, 1000, 1.5))
    late = outcome.latencies_ms > 100
    assert late.sum() >= 20  # of the 40 or so that were due in the first 200 ms of the stall
    assert outcome.latencies_ms[-1] >= 295


def test_what_comes_far_too_fast_is_not_sent_and_never_valid(monkeypatch):
    monkeypatch.setattr(loadgen, "_LEAST_BEHIND_SECONDS", 0.1)
    scenario = Server(1000, 1, 0.5)
    with closing(OneAtATime(0.005)) as connection:
        outcome = load_test(connection).run(scenario)
    found = measurement("one at a time", scenario, [outcome], is_checked=True, ceiling=1)
    assert found.samples * 0.4 < found.unsent < found.samples  # a hundred may wait, another hundred are answered
    assert found.checked == found.samples - found.unsent
    assert not found.is_valid
    assert "texts not sent" in found.faults[0]


def test_the_clients_of_one_server_are_added_up():
    scenario = Server(400, 1000, 0.4)
    outcomes = [load_test(Echo()).run(Server(200, 1000, 0.4), seed) for seed in (1, 2)]
    found = measurement("echo", scenario, outcomes, is_checked=True, ceiling=1)
    assert found.samples == sum(outcome.samples for outcome in outcomes)
    assert found.client["processes"] == 2
    assert found.latency_ms["max"] == max(outcome.latencies_ms[-1] for outcome in outcomes)
    shares = [share for _, share in found.cdf]
    assert shares[-1] == 1
    assert np.all(np.diff(shares) > 0)
