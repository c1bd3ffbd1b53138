"""The up-and-down method on planted chances of keeping the bound."""

import math
import random

import pytest

from pipeline.tune.staircase import Staircase, settled

LEVEL, WIDTH = 1000.0, 0.08


def climbed(seed: int, start: float, level: float = LEVEL, rounds: int = 32) -> float:
    draw = random.Random(seed)  # noqa: S311
    staircase = Staircase(start)
    for _ in range(rounds):
        staircase.told(draw.random() < 1 / (1 + math.exp(math.log(staircase.level / level) / WIDTH)))
    return staircase.value


@pytest.mark.parametrize("start", [LEVEL / 2, LEVEL, 2 * LEVEL])
def test_it_comes_to_where_the_bound_is_kept_half_of_the_time(start: float) -> None:
    found = [climbed(seed, start) for seed in range(40)]
    assert sum(found) / len(found) == pytest.approx(LEVEL, rel=0.05)
    assert max(abs(one / LEVEL - 1) for one in found) < 0.2


def test_one_bad_round_moves_it_by_little() -> None:
    def climb(bad: int | None) -> float:
        staircase = Staircase(LEVEL)
        for number in range(32):
            staircase.told(number != bad and staircase.level < LEVEL)
        return staircase.value

    assert climb(20) == pytest.approx(climb(None), rel=0.03)


def test_the_rounds_that_lead_there_do_not_count() -> None:
    assert list(settled(range(8))) == [2, 3, 4, 5, 6, 7]
    assert list(settled(range(1))) == [0]
