"""A batch runs in parts of rows of like length: what is run together, and that no answer shows it."""

import random

import numpy as np
import onnxruntime
import pytest

from tests.serve.asking import ask, column
from tests.serve.tiny_models import FEATURES, WORDS, feature_model, text_model

RANDOM = random.Random(6)  # noqa: S311
VOCABULARY = [word.encode() for word in (*WORDS, "große", "película", "映画")]
SHORT, LONG = b"a good film", b"dull " * 150


def frames(lengths: list[int], seq: int = 0) -> dict[str, np.ndarray]:
    """Frames with noise behind each row's end, where no answer may look."""
    values = np.random.default_rng(6).normal(size=(len(lengths), seq or max(lengths), FEATURES)).astype(np.float32)
    return {"features": values, "lengths": np.array(lengths, np.int64)[:, None]}


def test_texts_of_unlike_length_run_apart_and_those_of_like_length_together(client):
    texts = [SHORT] * 20 + [LONG] * 10
    RANDOM.shuffle(texts)
    runs = ask(client, "text_witness", text=column(*texts))["run"]
    assert runs[:, 0].tolist() == [20 if text == SHORT else 10 for text in texts]
    assert set(ask(client, "text_witness", text=column(*[SHORT] * 64))["run"][:, 0]) == {64}


def test_a_word_of_difference_are_no_reason_to_run_apart(client):
    texts = [SHORT * 4 + b" indeed" * (number % 2) for number in range(64)]
    assert set(ask(client, "text_witness", text=column(*texts))["run"][:, 0]) == {64}


def test_long_texts_of_one_length_run_eight_at_a_time(client):
    assert set(ask(client, "text_witness", text=column(*[LONG * 4] * 64))["run"][:, 0]) == {8}


def test_frames_run_apart_by_length_without_the_padding_that_they_came_with(client):
    lengths = [90, 3, 3, 90, 3, 2, 3, 3, 3, 3] * 3
    runs = ask(client, "frame_witness", **frames(lengths, seq=100))["run"]
    assert runs.tolist() == [[6, 90] if length == 90 else [24, 3] for length in lengths]


@pytest.mark.parametrize("wrong", [0, -1, 101])
def test_frames_with_a_length_that_cannot_be_are_left_to_the_model(client, wrong):
    runs = ask(client, "frame_witness", **frames([wrong, 90, *[3] * 20], seq=100))["run"]
    assert runs.tolist() == [[22, 100]] * 22


def test_texts_run_apart_are_answered_bit_for_bit_as_in_one_run_and_in_their_order(client):
    texts = [b" ".join(RANDOM.choices(VOCABULARY, k=RANDOM.choice((1, 2, 5, 40, 300)))) for _ in range(60)]
    texts += [b"", b"\xff\xfe good " * 50, b"good\0awful", b"good " * 3000]
    RANDOM.shuffle(texts)
    got = ask(client, "words", text=column(*texts))
    session = onnxruntime.InferenceSession(text_model().SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = session.run(["probabilities", "label", "valid"], {"text": column(*texts).astype("S15001")})
    assert got["probabilities"].tobytes() == wanted[0].tobytes()
    assert got["label"].ravel().tolist() == [label.encode() for label in wanted[1].ravel()]
    assert got["valid"].tolist() == wanted[2].tolist()
    assert len(set(ask(client, "text_witness", text=column(*texts))["run"][:, 0])) > 2


def test_frames_run_apart_are_answered_as_in_one_run_and_in_their_order(client):
    inputs = frames([RANDOM.choice((1, 2, 9, 70, 250)) for _ in range(64)], seq=260)
    session = onnxruntime.InferenceSession(feature_model().SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = session.run(["probabilities"], inputs)[0]
    assert np.abs(ask(client, "frames", **inputs)["probabilities"] - wanted).max() <= 1e-6
