import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import DataError
from pipeline.recipe import TokenizerKeys
from pipeline.runtime import open_session
from pipeline.sequences import Sequences
from pipeline.tokenizer import FIRST_WORD_ID, PADDING_ID, UNKNOWN_ID, Tokenizer, build, fit, read_vocabulary
from pipeline.verify.cases import HOSTILE_TEXTS

WORDS = TokenizerKeys(min_count=1)
CHARACTERS = TokenizerKeys(level="character", min_count=1)


def ids(vocabulary: list[str], text: str, keys: TokenizerKeys = WORDS) -> list[int]:
    return Tokenizer(build(vocabulary, keys).SerializeToString()).encode([text]).values.tolist()


def tokens(text: str, keys: TokenizerKeys = WORDS) -> list[str]:
    """The tokens of a text, in order, through a tokenizer fitted on it alone."""
    model = fit([text], keys)
    vocabulary = read_vocabulary(model)
    encoded = Tokenizer(model.SerializeToString()).encode([text])
    return [vocabulary[token - FIRST_WORD_ID] for token in encoded.values]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't STOP!", ["don", "'", "t", "stop", "!"]),
        ("Ünïcode ÇA été", ["ünïcode", "ça", "été"]),
        ("我爱abc123北京", ["我", "爱", "abc123", "北", "京"]),
        ("\U00020000\U00020001", ["\U00020000", "\U00020001"]),
        ("e\u0301tude x_y", ["e\u0301tude", "x", "_", "y"]),
        ("a\u00a0b\u3000c\u2003d", ["a", "b", "c", "d"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("3.14 👍", ["3", ".", "14", "👍"]),
    ],
)
def test_words_are_runs_of_letters_digits_and_marks_and_all_else_stands_alone(text: str, expected: list[str]) -> None:
    assert tokens(text) == expected


def test_characters_keep_white_space_and_astral_letters() -> None:
    assert tokens("aB \U00020000", CHARACTERS) == ["a", "b", " ", "\U00020000"]


def test_case_is_kept_when_the_recipe_says_so() -> None:
    assert tokens("Ab ab", TokenizerKeys(min_count=1, lowercase=False)) == ["Ab", "ab"]


def test_the_vocabulary_is_ordered_by_count_and_ties_by_code_point() -> None:
    model = fit(["b a c", "c b", "é z c"], WORDS)
    assert read_vocabulary(model) == ["c", "b", "a", "z", "é"]


def test_the_vocabulary_keeps_the_most_frequent_tokens_that_are_frequent_enough() -> None:
    texts = ["a a a b b c c d"]
    assert read_vocabulary(fit(texts, TokenizerKeys(min_count=2, max_vocabulary=2))) == ["a", "b"]
    assert read_vocabulary(fit(texts, TokenizerKeys(min_count=3))) == ["a"]


def test_fitting_fails_when_no_token_is_frequent_enough() -> None:
    with pytest.raises(DataError, match="none of 2 distinct tokens occurs tokenizer.min_count = 2 times"):
        fit(["a b"], TokenizerKeys(min_count=2))


def test_unknown_tokens_get_one_id_and_long_texts_are_cut() -> None:
    assert ids(["a"], "a zz a") == [FIRST_WORD_ID, UNKNOWN_ID, FIRST_WORD_ID]
    assert ids(["a"], "a " * 10, TokenizerKeys(max_tokens=3)) == [FIRST_WORD_ID] * 3


@pytest.mark.parametrize("batch", [[""], ["", ""], ["\0"], ["  ", "\u3000"], ["", "a"]])
def test_a_text_without_tokens_is_one_padding_step_in_any_batch(batch: list[str]) -> None:
    encoded = Tokenizer(build(["a"], WORDS).SerializeToString()).encode(batch)
    assert encoded.lengths.tolist() == [1] * len(batch)
    assert encoded.values[0] == PADDING_ID


def test_a_text_ends_at_its_first_nul_however_it_is_handed_over() -> None:
    session = open_session(build(["good", "bad"], WORDS).SerializeToString())
    as_str = session.run(["token_ids"], {"text": np.array([["good\0bad"]], dtype=object)})[0]
    as_bytes = session.run(["token_ids"], {"text": np.array([[b"good\0bad"]], dtype="S9")})[0]
    assert as_str.tolist() == as_bytes.tolist() == [[FIRST_WORD_ID, PADDING_ID]]


def python_reads(raw: bytes) -> bool:
    try:
        raw.partition(b"\0")[0].decode()
    except UnicodeDecodeError:
        return False
    return True


def valid_flags(rows: list[bytes]) -> list[bool]:
    session = open_session(build(["good"], WORDS).SerializeToString())
    texts = np.array(rows, dtype=f"S{max(map(len, rows)) + 1}")[:, None]
    return session.run(["valid"], {"text": texts})[0][:, 0].tolist()


@pytest.mark.parametrize(("name", "raw"), HOSTILE_TEXTS)
def test_valid_says_of_each_hostile_text_whether_its_bytes_are_utf8(name: str, raw: bytes) -> None:
    assert valid_flags([b"good", raw]) == [True, python_reads(raw)]


@given(st.lists(st.binary(max_size=12), min_size=1, max_size=6))
@settings(max_examples=300, deadline=None)
def test_valid_agrees_with_python_on_any_bytes_and_no_batch_fails(rows: list[bytes]) -> None:
    assert valid_flags(rows) == [python_reads(row) for row in rows]


@given(st.lists(st.text(max_size=20), min_size=1, max_size=6))
@settings(max_examples=100, deadline=None)
def test_a_text_gets_the_same_ids_alone_and_in_any_batch(texts: list[str]) -> None:
    tokenizer = Tokenizer(build(["a", "b", "0", "我"], WORDS).SerializeToString())
    together = tokenizer.encode(texts)
    alone = Sequences.join([tokenizer.encode([text]).values for text in texts])
    assert together.values.tolist() == alone.values.tolist()
    assert together.lengths.tolist() == alone.lengths.tolist()


def test_the_graph_is_checked_and_reads_back_its_vocabulary() -> None:
    model = build(["a", "我", "é"], WORDS)
    onnx.checker.check_model(model, full_check=True)
    assert read_vocabulary(model) == ["a", "我", "é"]
