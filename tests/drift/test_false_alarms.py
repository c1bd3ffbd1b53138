"""Requests that come from where the data came from, drawn many times: how often is that called drift?"""

from collections import Counter

import numpy as np
import pytest

from pipeline.drift import Limits
from pipeline.drift.measures import Expectation, Measure, judge
from pipeline.drift.tally import Block, Tally

CLASSES = ("angry", "calm", "glad")
NO_LIMITS = Limits(psi=0, unknown=0)  # chance alone decides


def rows(generator: np.random.Generator, count: int) -> Block:
    """Draw texts of lengths, words, answers and confidences as real ones have, the words of a text coming together."""
    tokens = np.clip(generator.lognormal(3, 0.6, count), 1, 128).astype(np.int64)
    columns = {
        "tokens": tokens,
        "size": tokens * 6,
        "confidence": generator.beta(6, 1.5, count).astype(np.float32),
        "label": generator.choice(3, count, p=[0.1, 0.3, 0.6]),
    }
    is_there = np.ones(count, bool)
    unknown = generator.binomial(tokens, generator.beta(1, 20, count))
    return Block(np.zeros(count), is_there, is_there, columns, unknown)


def alarms(count: int, limits: Limits, trials: int, known: int = 1000) -> tuple[float, Counter[str]]:
    """Return the share of the trials with an alarm, and how often each measure gave one."""
    generator, alarmed, by_measure = np.random.default_rng(count), 0, Counter[str]()
    for _ in range(trials):
        lengths = {name: rows(generator, 4 * known).columns[name] for name in ("tokens", "size")}
        expected = Expectation.of("text", CLASSES, lengths, rows(generator, known))
        tally = Tally(expected.scales)
        tally.add(rows(generator, count), np.ones(count, bool))
        names = [one.name for one in judge(expected, tally, limits) if isinstance(one, Measure) and one.is_drift]
        alarmed += bool(names)
        by_measure.update(names)
    return alarmed / trials, by_measure


@pytest.mark.parametrize("count", [100, 1000])
def test_the_same_distribution_gives_an_alarm_in_one_of_twenty_cases_at_most(count: int) -> None:
    share, by_measure = alarms(count, Limits(), trials=150)
    assert share <= 0.05, by_measure


@pytest.mark.parametrize(("count", "known"), [(300, 1000), (2000, 400)])
def test_what_is_called_chance_is_exceeded_in_about_one_of_a_hundred_cases(count: int, known: int) -> None:
    share, by_measure = alarms(count, NO_LIMITS, trials=300, known=known)
    assert share <= 0.05, by_measure
    assert sum(by_measure.values()) >= 3, by_measure  # a noise floor that is never reached would hide drift
    assert max(by_measure.values()) <= 3 + 3 * np.sqrt(3), by_measure  # 1 % of the trials and three deviations
