"""Canary and shadow: who answers, what is compared, and when the candidate is asked no more."""

import logging
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.client import Client, Prediction, Split, StopRule
from pipeline.client.comparison import Record
from pipeline.client.stop_rule import RateTest, upper_tail
from pipeline.errors import DataError, ServerError, UsageError
from tests.client.scripted import at_once, failing, scripted
from tests.client.test_retries import wait_for

TEXTS = [f"{word} {number}" for number in range(40) for word in ("good dull", "great", "awful film", "fine")]


def split_to(server, candidate, **options):
    return Split(Client(server.grpc_url, "tiny"), Client(server.grpc_url, candidate), seed=0, **options)


@pytest.fixture(scope="module")
def expected(server):
    """What production says of the texts, and what the other candidate does."""
    with Client(server.grpc_url, "tiny") as tiny, Client(server.grpc_url, "other.candidate") as other:
        return tiny.classify(TEXTS), other.classify(TEXTS)


def test_the_two_models_of_these_tests_do_not_agree(expected):
    pairs = zip(*expected, strict=True)
    assert sum(one.label != other.label for one, other in pairs) > len(TEXTS) / 2


@pytest.mark.parametrize(("share", "which"), [(0, 0), (1, 1)])
def test_a_canary_answers_its_share_of_the_requests(share, which, server, expected):
    with split_to(server, "other.candidate", share=share) as split:
        assert labels(split.classify(TEXTS)) == labels(expected[which])
        assert split.comparison.requests == share


def test_a_canary_of_a_part_of_the_requests_is_drawn_for_each(server, expected):
    with split_to(server, "other.candidate", share=0.3) as split:
        for _ in range(100):
            assert labels(split.classify(TEXTS[:4])) in [labels(side[:4]) for side in expected]
        comparison = split.comparison
    assert 10 < comparison.requests < 50  # a binomial with mean 30; the seed is fixed
    assert sum(comparison.candidate_labels.values()) == 4 * comparison.requests
    assert sum(comparison.production_labels.values()) == 4 * (100 - comparison.requests)
    assert comparison.production_ms is not None
    assert comparison.candidate_ms is not None
    assert comparison.rows == 0


def test_a_stream_is_split_by_batches_and_keeps_its_order(server, expected):
    production = Client(server.grpc_url, "tiny", batch_size=4)
    with Split(production, Client(server.grpc_url, "tiny.candidate"), share=0.5, seed=0) as split:
        assert labels(split.stream(TEXTS)) == labels(expected[0])
        assert 0 < split.comparison.requests < len(TEXTS) / 4


def test_a_stream_reads_only_a_little_ahead(server):
    read = []
    production = Client(server.grpc_url, "tiny", batch_size=4, in_flight=2)
    with Split(production, Client(server.grpc_url, "tiny.candidate"), share=0.5) as split:
        stream = split.stream(read.append(text) or text for text in TEXTS)
        next(stream)
        stream.close()
    assert len(read) <= 4 * 2


def test_a_shadow_is_compared_and_production_answers(server, expected):
    with split_to(server, "other.candidate", share=1, shadow=True) as split:
        assert labels(split.classify(TEXTS)) == labels(expected[0])
    comparison = split.comparison
    differ = sum(one.label != other.label for one, other in zip(*expected, strict=True))
    assert (comparison.rows, comparison.disagreements) == (len(TEXTS), differ)


def test_a_shadow_that_agrees_is_not_stopped(server):
    with split_to(server, "tiny.candidate", share=1, shadow=True) as split:
        for _ in range(20):
            split.classify(TEXTS[:64])
            wait_for(lambda: not split._behind)
    assert (split.comparison.rows, split.comparison.disagreements, split.stopped) == (20 * 64, 0, "")
    assert "label(s) differ (0.00%)" in str(split.comparison)


def test_the_label_of_a_row_that_is_not_valid_is_not_compared():
    for rows, differ in (((True, True), 1), ((True, False), 1), ((False, False), 0)):
        record = Record(StopRule())
        sides = [Prediction(label, 1.0, {label: 1.0}, valid) for label, valid in zip("ab", rows, strict=True)]
        record.compared(*([side] for side in sides))
        assert (record.comparison().rows, record.comparison().disagreements) == (1, differ)


def test_a_shadow_that_differs_is_stopped_and_asked_no_more(server, caplog):
    with caplog.at_level(logging.WARNING), split_to(server, "other.candidate", share=1, shadow=True) as split:
        split.classify(TEXTS)
        wait_for(lambda: split.stopped)
        wait_for(lambda: not split._behind)
        asked = split.comparison.requests
        split.classify(TEXTS)
        assert split.comparison.requests == asked
    assert "label(s) differ, 5.0% may" in split.stopped
    assert split.stopped in str(split.comparison)
    assert split.stopped in caplog.text


@pytest.mark.parametrize("shadow", [False, True])
def test_a_candidate_that_is_not_there_fails_no_request_and_is_stopped(shadow, server, expected):
    with split_to(server, "none.candidate", share=1, shadow=shadow) as split:
        for _ in range(5):
            assert labels(split.classify(TEXTS)) == labels(expected[0])
            wait_for(lambda: not split._behind)
        assert split.comparison.requests == split.comparison.failures == 2
    assert "2 of 2 request(s) failed, 2.0% may; the last: " in split.stopped
    assert "no model none.candidate" in split.stopped


def test_a_candidate_of_another_signature_counts_as_failing(server, expected):
    with split_to(server, "frames", share=1) as split:
        assert labels(split.classify(TEXTS)) == labels(expected[0])
        assert split.comparison.failures == 1


def test_production_s_failures_are_the_caller_s(server):
    split = Split(Client(server.grpc_url, "none"), Client(server.grpc_url, "tiny"), share=0)
    with split, pytest.raises(ServerError, match="no model none"):
        split.classify(["good"])
    with split_to(server, "tiny.candidate") as split, pytest.raises(DataError, match="row 0: got int"):
        split.classify([5])
    with split_to(server, "tiny.candidate") as split, pytest.raises(UsageError, match="wanted a list of rows"):
        split.classify("good")


def test_a_slow_shadow_delays_nobody_and_is_skipped_when_it_is_behind():
    go_on = threading.Event()
    with scripted(at_once) as (_, fast), scripted(lambda *_: go_on.wait(60)) as (slow, url):
        with Split(Client(fast, "tiny"), Client(url, "tiny", in_flight=2), share=1, shadow=True) as split:
            for _ in range(20):
                assert len(split.classify(["good"])) == 1
            wait_for(lambda: slow.calls == 2)
            assert split.comparison.skipped == 20 - 2 * 2
            go_on.set()
        assert split.comparison.rows == 4
        assert "16 not sent, it was behind" in str(split.comparison)


def test_a_canary_that_begins_to_fail_late_is_stopped_soon():
    dead = grpc.StatusCode.INTERNAL, "the model's process died"
    with scripted(at_once) as (_, good), scripted(at_once) as (candidate, url):
        with Split(Client(good, "tiny"), Client(url, "tiny"), share=1) as split:
            for _ in range(300):
                split.classify(["good"])
            candidate.act = failing(*dead)
            for _ in range(100):
                assert len(split.classify(["good"])) == 1
        assert "the model's process died" in split.stopped
        assert split.comparison.failures < 60


def test_threads_share_a_split(server, expected):
    with split_to(server, "tiny.candidate", share=0.5) as split, ThreadPoolExecutor(8) as pool:
        for predictions in pool.map(split.classify, [TEXTS[:8]] * 64):
            assert labels(predictions) == labels(expected[0][:8])
        comparison = split.comparison
        counted = sum(comparison.production_labels.values()) + sum(comparison.candidate_labels.values())
        assert counted == 8 * 64


@given(trials=st.integers(1, 300), rate=st.floats(0.001, 0.999), data=st.data())
def test_the_tail_is_the_sum_of_the_binomial_s_terms(trials, rate, data):
    events = data.draw(st.integers(0, trials))
    share = Fraction(rate)  # as a float, a high power sinks below the least
    terms = (math.comb(trials, n) * share**n * (1 - share) ** (trials - n) for n in range(events, trials + 1))
    exact = float(sum(terms))
    if events > trials * rate:
        assert upper_tail(events, trials, rate) == pytest.approx(exact, rel=1e-6, abs=1e-300)
    else:
        assert upper_tail(events, trials, rate) == 1


def stops(rate, limit, trials, generator):
    """Return after how many trials a stream of events with a rate is stopped; None when it is not."""
    test, events = RateTest(limit, error_probability=0.05), 0
    for trial in range(1, trials + 1):
        events += generator.random() < rate
        if test.is_exceeded(events, trial):
            return trial
    return None


def test_a_rate_at_its_limit_is_stopped_no_more_often_than_promised_however_often_one_looks():
    generator = np.random.default_rng(0)
    assert sum(stops(0.05, 0.05, 3000, generator) is not None for _ in range(300)) <= 0.05 * 300


def test_a_rate_above_its_limit_is_stopped():
    generator = np.random.default_rng(0)
    found = [stops(0.2, 0.05, 3000, generator) for _ in range(100)]
    assert None not in found
    assert sorted(found)[50] < 150


@pytest.mark.parametrize("option", [{"failures": 0}, {"disagreements": 1.5}, {"confidence": 1}])
def test_a_rule_out_of_range_is_refused(option):
    with pytest.raises(UsageError, match="wanted between 0 and 1"):
        StopRule(**option)


def test_a_share_out_of_range_is_refused(server):
    with Client(server.grpc_url) as client, pytest.raises(UsageError, match="wanted 0 to 1, got 2"):
        Split(client, client, share=2)


def labels(predictions):
    return [prediction.label for prediction in predictions]
