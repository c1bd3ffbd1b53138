import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report.drawing import Series, curves, reliability, ticks
from tests.report.reading import VOID

NUMBERS = st.floats(-1e30, 1e30)


@given(NUMBERS, NUMBERS)
def test_ticks_enclose_both_ends_and_rise(one, other):
    low, high = sorted((one, other))
    marks = ticks(low, high)
    slack = 1e-6 * max(abs(low), abs(high)) + 1e-60
    assert marks[0] - slack <= low
    assert high <= marks[-1] + slack
    assert marks == sorted(set(marks))
    assert 2 <= len(marks) <= 8


@given(st.lists(st.none() | st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=100))
def test_any_metric_is_drawn_inside_its_frame(values):
    epochs = list(range(1, len(values) + 1))
    drawing = curves("words", "nats", epochs, [Series("one", values)], best=epochs[-1])
    assert "nan" not in drawing
    assert "inf," not in drawing
    for points in re.findall(r'points="([^"]*)"', drawing):
        for point in points.split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= 320
            assert 0 <= y <= 222


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.integers(1, 10**9)), max_size=15))
def test_any_bins_are_drawn(bins):
    assert reliability("words", bins).count('class="dot') == len(bins)


@pytest.mark.parametrize("length", [1, 2, 7, 36, 1000])
def test_the_epochs_axis_has_few_ticks_and_both_ends(length):
    drawing = curves("words", "nats", list(range(1, length + 1)), [Series("one", [0.5] * length)], best=None)
    below = re.findall(r'text-anchor="middle">(\d+)<', drawing)
    assert below[0] == "1"
    assert below[-1] == str(max(length, 2))
    assert len(below) <= 8


def test_a_gap_splits_a_line_and_a_lone_point_is_a_dot():
    drawing = curves("words", "nats", [1, 2, 3, 4], [Series("one", [1.0, None, 3.0, 4.0])], best=None)
    assert drawing.count("<polyline") == 2
    assert drawing.count("<circle") == 3


def test_a_title_is_escaped_in_a_drawing():
    drawing = curves('"><script>', "nats", [1], [Series("<b>", [1.0]), Series("two", [2.0], style=2)], best=1)
    assert set(re.findall(r"<(\w+)", drawing)) - VOID == {"svg", "text"}
