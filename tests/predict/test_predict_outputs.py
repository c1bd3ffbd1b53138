import csv
import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.client import Contract, Prediction
from pipeline.predict.inputs import Item
from pipeline.predict.outputs import csv_lines, fit, jsonl_lines, table_lines

CONTRACT = Contract("text", ("bad", "good"), None, 64)
FRAMES = Contract("features", ("a",), 1, 8)
GOOD = Prediction("good", 0.8999999761581421, {"bad": 0.10000000149011612, "good": 0.8999999761581421}, True)
NOT_TEXT = Prediction("good", 0.5, {"bad": 0.5, "good": 0.5}, False)


def answer(text, prediction=GOOD):
    return Item(7, text.encode(), text), prediction


def frames_answer(valid):
    return Item(3, np.ones((2, 1), np.float32), "row 3, 2 frames"), Prediction("a", 1.0, {"a": 1.0}, valid)


def test_json_lines_hold_everything_with_the_digits_of_float32():
    (line,) = jsonl_lines([answer("café\n")])
    assert json.loads(line) == {
        "row": 7,
        "text": "café\n",
        "label": "good",
        "probability": 0.9,
        "probabilities": {"bad": 0.1, "good": 0.9},
        "valid": True,
    }


def test_json_lines_of_what_is_not_valid_have_no_label():
    lines = jsonl_lines([answer("\ufffd", NOT_TEXT), frames_answer(False), frames_answer(True)])
    nothing = {"label": None, "probability": None, "valid": False}
    assert [json.loads(line) for line in lines] == [
        {"row": 7, "text": "\ufffd", "probabilities": {"bad": None, "good": None}, **nothing},
        {"row": 3, "frames": 2, "probabilities": {"a": None}, **nothing},
        {"row": 3, "frames": 2, "label": "a", "probability": 1.0, "probabilities": {"a": 1.0}, "valid": True},
    ]


def test_csv_of_what_is_not_valid_has_no_label():
    assert list(csv_lines([answer("\ufffd", NOT_TEXT)], CONTRACT))[1:] == ["7,\ufffd,,,,,false"]
    answers = [frames_answer(False), frames_answer(True), frames_answer(None)]
    assert list(csv_lines(answers, FRAMES))[1:] == ["3,2,,,,false", "3,2,a,1.0,1.0,true", "3,2,a,1.0,1.0,"]


@given(text=st.text())
def test_a_csv_record_gives_its_text_back(text):
    header, record = csv.reader(io.StringIO("\r\n".join(csv_lines([answer(text)], CONTRACT)), newline=""))
    assert header == ["row", "text", "label", "probability", "probability of bad", "probability of good", "valid"]
    assert record == ["7", text, "good", "0.9", "0.1", "0.9", "true"]


def test_csv_of_no_rows_is_its_header():
    assert list(csv_lines([], FRAMES)) == ["row,frames,label,probability,probability of a,valid"]


def test_a_table_marks_what_is_not_text():
    assert list(table_lines([answer("fine film"), answer("\ufffd", NOT_TEXT)], CONTRACT, 60)) == [
        "label     probability  text",
        "good           0.9000  fine film",
        "not text            -  \ufffd",
    ]


def test_a_table_marks_a_sequence_that_is_not_valid():
    assert list(table_lines([frames_answer(True), frames_answer(False)], FRAMES, 60)) == [
        "label      probability  row",
        "a               1.0000  row 3, 2 frames",
        "not valid            -  row 3, 2 frames",
    ]


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("short", 10, "short"),
        ("a longer text", 8, "a longe…"),
        ("exactly8", 8, "exactly8"),
        ("漢字漢字", 8, "漢字漢字"),
        ("漢字漢字漢", 8, "漢字漢…"),
        ("line\nbreak\x1b[31m", 20, "line break [31m"),
    ],
)
def test_a_text_is_cut_to_the_columns_it_may_take(text, width, shown):
    assert fit(text, width) == shown


@given(text=st.text(), width=st.integers(12, 40))
def test_no_text_breaks_a_line_or_obeys_an_escape(text, width):
    assert fit(text, width).isprintable()


@given(text=st.text(alphabet="ab漢字e\u0301 ", max_size=80), width=st.integers(12, 40))
def test_a_cut_text_is_no_wider_than_it_may_be(text, width):
    shown = fit(text, width)
    assert sum(2 if letter in "漢字" else letter != "\u0301" for letter in shown) <= width
    assert shown == text or shown.endswith("…")
