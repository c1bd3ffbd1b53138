import math
from itertools import product

import numpy as np
import pytest

from pipeline.capacity import Call, Network, Station, errors, fitted, highest_rate, memory_terms, simulate, time_terms
from pipeline.capacity.cost import total
from pipeline.capacity.queueing import rate_at_limit

PLANTED = {
    "call": 1e-4, "load": 2e-11, "step": 2e-6, "weight": 3e-11, "operation": 1e-11, "unit": 2e-9, "byte": 2e-8,
    "row": 1e-5,
}  # fmt: skip
SIZES = [
    Network(layers=((E, H),), directions=D, gates=4, vocabulary=30_000, file_bytes=2**25)
    for E, H, D in [(128, 64, 1), (128, 256, 2), (64, 512, 1), (256, 128, 2), (32, 32, 1)]
]
CALLS = [Call(B, T, B * T * width) for B, T, width in product((1, 4, 16, 64), (4, 16, 64, 256), (2, 7))]
WORK = [time_terms(network, call) for network in SIZES for call in CALLS]


def test_the_fit_recovers_planted_prices() -> None:
    assert fitted(WORK, [total(PLANTED, terms) for terms in WORK]) == pytest.approx(PLANTED, rel=1e-5)


def test_the_fit_predicts_a_model_and_lengths_it_never_saw_from_noisy_measurements() -> None:
    generator = np.random.default_rng(0)
    noisy = [total(PLANTED, terms) * (1 + generator.exponential(0.1)) for terms in WORK]
    prices = fitted(WORK, noisy)
    larger = Network(((300, 384), (768, 384)), 2, 4, 50_000, 2**26)
    unseen = [time_terms(larger, Call(B, T, 5 * B * T)) for B in (1, 8, 128) for T in (10, 100, 1000)]
    missed = errors(prices, unseen, [total(PLANTED, terms) for terms in unseen])
    assert 1 < missed["median"] < 1.2
    assert missed["worst"] < 1.3
    assert all(price >= 0 for price in prices.values())


def test_a_call_that_something_else_slowed_down_hardly_moves_the_fit() -> None:
    measured = [total(PLANTED, terms) for terms in WORK]
    slowed = [seconds * (50 if number % 20 == 0 else 1) for number, seconds in enumerate(measured)]
    assert errors(fitted(WORK, slowed), WORK, measured)["worst"] < 1.15


def test_work_that_costs_nothing_gets_no_price_below_zero() -> None:
    free = {**PLANTED, "unit": 0.0, "step": 0.0}
    generator = np.random.default_rng(1)
    prices = fitted(WORK, [total(free, terms) * generator.normal(1, 0.05) for terms in WORK])
    assert min(prices.values()) >= 0
    assert sum(price == 0 for price in prices.values()) >= 1


def test_terms_that_never_occur_cost_nothing() -> None:
    frames = [time_terms(network, Call(call.rows, call.tokens)) for network in SIZES for call in CALLS]
    prices = fitted(frames, [total(PLANTED, terms) for terms in frames])
    assert prices["byte"] == 0
    assert prices["operation"] == pytest.approx(PLANTED["operation"], rel=1e-4)


def test_errors_are_factors_up_and_down_alike() -> None:
    missed = errors({"call": 1.0}, [{"call": 1.0}] * 3, [0.5, 1.0, 4.0])
    assert missed == {"measurements": 3, "median": pytest.approx(2), "worst": pytest.approx(4)}


def test_the_work_of_a_call_is_the_layers_own() -> None:
    network = Network(layers=((3, 5), (10, 5)), directions=2, gates=4, vocabulary=7, file_bytes=11)
    terms = time_terms(network, Call(rows=2, tokens=6, text_bytes=99))
    weights = 2 * 4 * 5 * (3 + 5) + 2 * 4 * 5 * (10 + 5)
    assert terms == {
        "call": 1, "load": weights, "step": 6 * 2 * 2, "weight": 6 * 2 * 2 * 4 * 5 * 5,
        "operation": 2 * 6 * 2 * weights, "unit": 2 * 6 * 2 * (5 + 5), "byte": 99, "row": 2,
    }  # fmt: skip
    memory = memory_terms(network, Call(2, 6))
    assert memory == {"session": 1, "file_byte": 11, "token": 7, "activation_byte": 2 * 6 * 4 * (3 + 60 + 10 + 60)}


def constant(seconds: float) -> Station:
    return Station(instances=1, largest_batch=1, seconds=lambda _rows, _tokens: seconds)


@pytest.mark.parametrize("load", [0.3, 0.6])
def test_one_instance_without_batches_waits_as_theory_says(load: float) -> None:
    """M/D/1: Erlang 1909; Tijms 2003, A First Course in Stochastic Models, 9.2.2."""

    def waits_no_longer(time: float) -> float:
        terms = (
            (load * (k - time)) ** k / math.factorial(k) * math.exp(-load * (k - time)) for k in range(int(time) + 1)
        )
        return (1 - load) * sum(terms)

    seen = simulate(constant(1.0), load, [1])
    assert waits_no_longer(seen.p99 - 1) == pytest.approx(0.99, abs=0.004)
    assert seen.busy == pytest.approx(load, abs=0.02)
    assert seen.batch == 1


def test_where_nothing_waits_a_text_takes_its_own_call() -> None:
    seen = simulate(Station(2, 64, lambda rows, tokens: 1e-3 * rows + 1e-4 * tokens), 1e-2, [20])
    assert (seen.p50, seen.p99, seen.batch) == pytest.approx((3e-3, 3e-3, 1), abs=1e-9)


def test_a_batch_takes_as_long_as_its_longest_row() -> None:
    station = Station(1, 8, lambda _rows, tokens: 1e-3 * tokens)
    assert rate_at_limit(station, [10, 10]) == pytest.approx(8 / 0.01)
    assert rate_at_limit(station, [1, 10]) == pytest.approx(8 / 0.01, rel=0.02)  # 255 of 256 batches hold a long one


def test_what_waits_becomes_a_batch() -> None:
    station = Station(2, 16, lambda rows, _tokens: 1e-2 + 1e-4 * rows)
    limit = rate_at_limit(station, [1])
    batches = [simulate(station, share * limit, [1]).batch for share in (0.01, 0.3, 0.6, 0.9)]
    assert batches == sorted(batches)
    assert batches[0] < 1.5
    assert batches[-1] > 10


def test_a_longer_bound_and_more_instances_never_answer_less() -> None:
    def rates(instances: int) -> list[float]:
        station = Station(instances, 32, lambda rows, tokens: 1e-3 + 1e-5 * rows * tokens)
        return [highest_rate(station, bound, [5, 20, 80]) for bound in (0.001, 0.003, 0.03)]

    two, four = rates(2), rates(4)
    assert two == sorted(two)
    assert two[0] == 0, "a call takes longer than the first bound"
    assert two[1] > 0
    assert all(more >= less for more, less in zip(four, two, strict=True))


def test_the_highest_rate_keeps_its_bound_and_a_higher_one_does_not() -> None:
    station = Station(2, 32, lambda rows, tokens: 2e-3 + 1e-5 * rows * tokens)
    rate = highest_rate(station, 0.008, [40])
    assert 0 < rate < rate_at_limit(station, [40])
    assert simulate(station, rate, [40]).p99 <= 0.008 < simulate(station, 1.05 * rate, [40]).p99
