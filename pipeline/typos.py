"""Misspellings, as people make them: what training can add and the attack looks for.

Source: Pruthi et al. 2019, Combating Adversarial Misspellings with Robust Word Recognition: swap, drop, add and
keyboard edits inside words of at least four letters, whose first and last letters stay.
"""

import re
from functools import lru_cache

import numpy as np

SHORTEST = 4
_WORD = re.compile(rf"[^\W\d_]{{{SHORTEST},}}")
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def words(text: str) -> list[tuple[int, int]]:
    """Return where each word stands, (start, end), that is long enough to be misspelt."""
    return [match.span() for match in _WORD.finditer(text)]


@lru_cache(100_000)
def edits(word: str) -> tuple[str, ...]:
    """Return every misspelling of a word that is one edit away, each once; the word itself is none.

    Letters are added and replaced in words that a QWERTY keyboard writes; in others they are swapped and dropped.
    """
    inner = range(1, len(word) - 1)
    found = [word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in inner if i + 1 < len(word) - 1]
    found += [word[:i] + word[i + 1 :] for i in inner]
    if word.isascii():
        found += [word[:i] + letter + word[i:] for i in range(1, len(word)) for letter in _LETTERS]
        found += [word[:i] + letter + word[i + 1 :] for i in inner for letter in _NEIGHBOURS[word[i].lower()]]
    return tuple(dict.fromkeys(edit for edit in found if edit != word))


def misspell(text: str, share: float, generator: np.random.Generator) -> str:
    """Return a text in which a share of the words, drawn one by one, has one edit.

    The kinds are drawn alike; where there is nothing to swap, or no keyboard for the word, a letter is dropped instead.
    Two equal letters that are swapped leave their word as it is.
    """
    pieces, end = [], 0
    for (start, stop), draw in zip(spans := words(text), generator.random(len(spans)), strict=True):
        if draw < share:
            pieces += [text[end:start], _misspelt(text[start:stop], generator)]
            end = stop
    return "".join(pieces) + text[end:]


def _misspelt(word: str, generator: np.random.Generator) -> str:
    kind, place, letter = (int(number) for number in generator.integers(0, 1 << 30, 3))
    i = 1 + place % (len(word) - 2)
    if kind % 4 == 0 and i + 1 < len(word) - 1:
        return word[:i] + word[i + 1] + word[i] + word[i + 2 :]
    if kind % 4 <= 1 or not word.isascii():
        return word[:i] + word[i + 1 :]
    if kind % 4 == 2:
        return word[:i] + _LETTERS[letter % len(_LETTERS)] + word[i:]
    neighbours = _NEIGHBOURS[word[i].lower()]
    return word[:i] + neighbours[letter % len(neighbours)] + word[i + 1 :]


def _neighbours() -> dict[str, str]:
    """Return, for each letter, those that touch it on a QWERTY keyboard."""
    places = {letter: (row, column + row / 2) for row, keys in enumerate(_ROWS) for column, letter in enumerate(keys)}
    return {
        letter: "".join(
            other for other, (y, x) in places.items() if other != letter and abs(y - row) <= 1 and abs(x - column) <= 1
        )
        for letter, (row, column) in places.items()
    }


_NEIGHBOURS = _neighbours()
