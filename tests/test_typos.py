import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.typos import SHORTEST, edits, misspell, words


def distance(a: str, b: str) -> int:
    """Damerau-Levenshtein, restricted: insertions, deletions, substitutions and swaps of neighbours."""
    D = np.zeros((len(a) + 1, len(b) + 1), int)
    D[:, 0], D[0, :] = np.arange(len(a) + 1), np.arange(len(b) + 1)
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            D[i, j] = min(D[i - 1, j] + 1, D[i, j - 1] + 1, D[i - 1, j - 1] + (a[i - 1] != b[j - 1]))
            if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
                D[i, j] = min(D[i, j], D[i - 2, j - 2] + 1)
    return int(D[-1, -1])


@pytest.mark.parametrize("word", ["lovely", "aaaa", "Dreadful", "été", "naïve", "非常好看的", "слово"])
def test_every_edit_is_one_edit_away_and_keeps_first_and_last_letter(word: str) -> None:
    for edit in edits(word):
        assert distance(word, edit) == 1
        assert (edit[0], edit[-1]) == (word[0], word[-1])
    assert len(set(edits(word))) == len(edits(word))


def test_the_four_kinds_of_edit_are_there() -> None:
    assert {"lvoely", "loely", "loxvely", "lobely"} <= set(edits("lovely"))
    assert "lopvely" in edits("lovely"), "any letter may be added"
    assert "lozely" not in edits("lovely"), "z and v do not touch"


def test_short_words_numbers_and_punctuation_are_left_alone() -> None:
    text = "a bad one, 12345 !!!! :-))))"
    assert words(text) == []
    assert misspell(text, 1.0, np.random.default_rng(0)) == text


@given(st.text(st.characters(codec="utf-8"), max_size=60), st.integers(0, 99))
def test_a_share_of_one_gives_every_word_exactly_one_edit(text: str, seed: int) -> None:
    misspelt = misspell(text, 1.0, np.random.default_rng(seed))
    spans = words(text)
    assert distance(text, misspelt) <= len(spans)
    if all(len(set(text[start + 1 : end - 1])) == end - start - 2 for start, end in spans) and len(spans) == 1:
        assert distance(text, misspelt) == 1


def test_a_share_draws_about_that_many_words_and_no_share_none() -> None:
    text = " ".join(["horse", "cattle", "donkey"] * 1000)
    generator = np.random.default_rng(0)
    changed = sum(a != b for a, b in zip(text.split(), misspell(text, 0.3, generator).split(), strict=True))
    assert 800 < changed < 1000
    assert misspell(text, 0.0, generator) == text


def test_the_shortest_word_is_attackable() -> None:
    assert words("x" * SHORTEST) == [(0, SHORTEST)]
    assert words("x" * (SHORTEST - 1)) == []
