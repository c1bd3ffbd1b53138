"""The worst misspellings of a text, found by asking the model.

Source: Pruthi et al. 2019, Combating Adversarial Misspellings with Robust Word Recognition.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.reference import Reference
from pipeline.tokenizer import Tokenizer
from pipeline.typos import edits, words

MOST_WORDS = 30
_AT_ONCE = 20_000  # candidate texts that are encoded together


@dataclass(frozen=True)
class Victim:
    """A text under attack.

    Attributes:
        row: its place among the attacked rows.
        text: as it stands now.
        touched: which of its words, by their order, have a typo already.
    """

    row: int
    text: str
    touched: frozenset[int] = frozenset()


@dataclass(frozen=True)
class _Candidate:
    victim: Victim
    text: str
    word: int


def add_typo(
    victims: list[Victim], labels: np.ndarray, reference: Reference, tokenizer: Tokenizer
) -> tuple[list[Victim], np.ndarray]:
    """Give each text the one typo more that its true class suffers most from.

    Every edit of every word is tried; of a text with more than `MOST_WORDS` words, only of those whose absence the true
    class suffers most from. A text without a word to misspell stays as it is.

    Args:
        victims: the texts.
        labels: (N,) of all rows; a victim's is ``labels[victim.row]``.
        reference: who answers.
        tokenizer: the reference's.

    Returns:
        The texts after the typo, and the label, (len(victims),), that each is given.
    """
    chosen: list[Victim] = []
    predicted: list[int] = []
    for group in _groups(victims, labels, reference, tokenizer):
        probabilities = _ask([candidate.text for candidate in group], reference, tokenizer)
        true = probabilities[np.arange(len(group)), labels[[candidate.victim.row for candidate in group]]]
        worst: dict[int, int] = {}
        for place, candidate in enumerate(group):
            row = candidate.victim.row
            if row not in worst or true[place] < true[worst[row]]:
                worst[row] = place
        for place in worst.values():
            victim, word = group[place].victim, group[place].word
            touched = victim.touched | ({word} if word >= 0 else set())
            chosen.append(Victim(victim.row, group[place].text, frozenset(touched)))
            predicted.append(int(probabilities[place].argmax()))
    return chosen, np.array(predicted, np.int64)


def _groups(
    victims: list[Victim], labels: np.ndarray, reference: Reference, tokenizer: Tokenizer
) -> Iterator[list[_Candidate]]:
    """Yield all candidates of some victims at a time, each victim's own text first."""
    group: list[_Candidate] = []
    for victim in victims:
        group.append(_Candidate(victim, victim.text, -1))
        spans = words(victim.text)
        for word in _weak_words(victim, spans, labels, reference, tokenizer):
            start, end = spans[word]
            before, after = victim.text[:start], victim.text[end:]
            group += [_Candidate(victim, before + edit + after, word) for edit in edits(victim.text[start:end])]
        if len(group) >= _AT_ONCE:
            yield group
            group = []
    if group:
        yield group


def _weak_words(
    victim: Victim, spans: list[tuple[int, int]], labels: np.ndarray, reference: Reference, tokenizer: Tokenizer
) -> list[int]:
    """Return the words to try: all that have no typo yet, or the ones that matter most."""
    open_words = [word for word in range(len(spans)) if word not in victim.touched]
    if len(open_words) <= MOST_WORDS:
        return open_words
    without = [victim.text[: spans[word][0]] + victim.text[spans[word][1] :] for word in open_words]
    true = _ask(without, reference, tokenizer)[:, labels[victim.row]]
    return [open_words[place] for place in np.argsort(true, kind="stable")[:MOST_WORDS]]


def _ask(texts: list[str], reference: Reference, tokenizer: Tokenizer) -> np.ndarray:
    """Return the probabilities, (N, C), of texts; texts of the same tokens are asked once."""
    sequences = tokenizer.encode(texts)
    places: dict[bytes, int] = {}
    first: list[int] = []
    unique = np.empty(len(texts), np.int64)
    for number in range(len(texts)):
        key = sequences.values[sequences.offsets[number] : sequences.offsets[number + 1]].tobytes()
        unique[number] = places.setdefault(key, len(places))
        if unique[number] == len(first):
            first.append(number)
    answers: np.ndarray = reference.probabilities(sequences.take(np.array(first)))[unique]
    return answers
