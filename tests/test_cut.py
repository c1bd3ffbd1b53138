"""Where rows of unlike length are cut, and what `score` runs together."""

import random

import numpy as np
import pytest

from pipeline.cut import cut
from pipeline.score.operator import BATCH_BYTES, BATCH_ROWS, batches


def steps_run(steps: np.ndarray, ends: list[int]) -> int:
    return sum(len(part) * int(part[-1]) for part in np.split(steps, ends))


def test_rows_of_one_length_stay_together_up_to_what_the_cache_holds() -> None:
    assert cut(np.full(32, 20)) == []
    assert cut(np.full(32, 230)) == [8, 16, 24]
    assert cut(np.array([5])) == []


@pytest.mark.parametrize("seed", range(20))
def test_cuts_ascend_and_leave_little_padding(seed: int) -> None:
    steps = np.sort(np.random.default_rng(seed).integers(3, 60, 32))
    ends = cut(steps)
    assert ends == sorted(set(ends))
    assert all(0 < end < 32 for end in ends)
    assert steps_run(steps, ends) < 1.35 * steps.sum() < steps_run(steps, [])


def test_every_text_is_in_one_batch_and_short_ones_do_not_wait_for_a_long_one() -> None:
    texts = [b"word " * random.Random(number).choice((3, 30, 300, 20_000)) for number in range(200)]  # noqa: S311
    found = batches(texts)
    assert sorted(np.concatenate(found).tolist()) == list(range(200))
    for batch in found:
        lengths = [len(texts[row]) for row in batch]
        assert len(batch) <= BATCH_ROWS
        assert len(batch) == 1 or len(batch) * max(lengths) <= BATCH_BYTES
        assert max(lengths) == min(lengths)
    whole = batches([b"a word"] * 10 + [b"word " * 100] * 10, is_cut=False)
    assert [len(batch) for batch in whole] == [20]
