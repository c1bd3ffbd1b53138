"""The cases are those that were promised: the whole grid, every held-out row, every kind of hostile number."""

import itertools

import numpy as np
import pytest

from pipeline.reference import Reference
from pipeline.verify.cases import HOSTILE_NUMBERS, ODD_LENGTH, grid, held_out
from pipeline.verify.engines import joined


@pytest.fixture(params=["exported_run", "verified_feature_run"])
def reference(request: pytest.FixtureRequest) -> Reference:
    return Reference.load(request.getfixturevalue(request.param))


def lengths_of(rows: list, reference: Reference) -> np.ndarray:
    return joined(rows, reference.tokenizer)[0].lengths


def test_the_grid_is_every_batch_size_by_every_length_by_every_arrangement(reference: Reference) -> None:
    seen = set()
    dataset = reference.dataset()
    longest = 32 if reference.tokenizer else max(map(len, dataset.split("validation").frames()))
    for batch in grid(reference, dataset):
        shape, arrangement = batch.name.split(", ")
        rows, length = (int(part.split()[1]) for part in shape.split(" × "))
        lengths = lengths_of(batch.rows, reference)
        assert len(lengths) == rows
        assert {
            "uniform": (lengths == length).all(),
            "ragged": (lengths <= length).all(),
            "one long": sorted(lengths) == [1] * (rows - 1) + [length],
        }[arrangement], batch.name
        seen.add((rows, length, arrangement))
    sizes, steps = (1, 2, 7, 64), (1, 2, ODD_LENGTH, longest)
    assert seen == set(itertools.product(sizes, steps, ("uniform", "ragged", "one long")))


def test_a_small_grid_is_the_grid_without_its_largest(reference: Reference) -> None:
    batches = list(grid(reference, reference.dataset(), is_small=True))
    assert {len(batch.rows) for batch in batches} == {1, 2, 7}
    assert max(lengths_of(batch.rows, reference).max() for batch in batches) == ODD_LENGTH


def test_the_held_out_rows_are_all_of_both_splits_in_batches_of_like_length(reference: Reference) -> None:
    dataset, interface = reference.dataset(), reference.signature.interface
    batches = list(held_out(dataset, interface, 64))
    for name in ("validation", "test"):
        split = dataset.split(name)
        rows = list(split.texts()) if interface == "text" else split.frames()
        asked = [row for batch in batches if batch.name == f"{name} rows" for row in batch.rows]
        assert sorted(map(repr, asked)) == sorted(map(repr, rows))
    assert all(len(batch.rows) <= 64 for batch in batches)


def test_the_hostile_numbers_are_of_every_kind() -> None:
    numbers = np.array(HOSTILE_NUMBERS, np.float32)
    assert np.isnan(numbers).any()
    assert np.isposinf(numbers).any()
    assert np.isneginf(numbers).any()
    assert ((np.abs(numbers) > 1e38) & np.isfinite(numbers)).any()
    assert ((numbers != 0) & (np.abs(numbers) < np.finfo(np.float32).tiny)).any(), "denormal"
