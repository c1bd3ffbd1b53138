import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sequences import Sequences, length_batches

LENGTHS = st.lists(st.integers(1, 50), min_size=1, max_size=60)


@given(LENGTHS, st.integers(1, 20), st.booleans())
def test_every_sequence_is_in_exactly_one_batch(lengths: list[int], batch_size: int, is_training: bool) -> None:
    generator = np.random.default_rng(0) if is_training else None
    batches = list(length_batches(np.array(lengths), batch_size, generator))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert max(map(len, batches)) <= batch_size


def test_batches_hold_sequences_of_similar_length_in_a_new_order_each_time() -> None:
    lengths = np.random.default_rng(0).integers(1, 400, 2000)
    generator = np.random.default_rng(1)
    first, second = (list(length_batches(lengths, 32, generator)) for _ in range(2))
    padded = sum(len(batch) * lengths[batch].max() for batch in first)
    assert lengths.sum() / padded > 0.85
    assert [batch.tolist() for batch in first] != [batch.tolist() for batch in second]


@given(LENGTHS)
def test_padding_gives_back_each_sequence_and_zeros(lengths: list[int]) -> None:
    pieces = [np.arange(1, 2 * n + 1, dtype=np.float32).reshape(n, 2) for n in lengths]
    batch, found = Sequences.join(pieces).padded(np.arange(len(pieces)), width=50)
    assert found.tolist() == lengths
    for row, piece in zip(batch, pieces, strict=True):
        assert np.array_equal(row[: len(piece)], piece)
        assert not row[len(piece) :].any()
