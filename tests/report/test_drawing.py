import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report.drawing import HEIGHT, WIDTH, Series, curves, histogram, reliability, ticks
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


EDGES = [float(f"{digit}e{power}") for power in range(-9, 0) for digit in (1, 2, 5)]


def bars(drawing):
    found = re.findall(r'<rect class="([^"]*)" x="([^"]*)" y="([^"]*)" width="([^"]*)" height="([^"]*)"/>', drawing)
    return [(kind, *map(float, numbers)) for kind, *numbers in found]


@given(
    st.lists(st.integers(0, 10**9), min_size=len(EDGES) + 1, max_size=len(EDGES) + 1),
    st.integers(0, 10**9),
    st.sampled_from([1e-6, 1e-5, 2e-4]),
)
def test_any_counts_make_a_bar_each_inside_the_frame_and_marked_where_they_are_too_far(counts, not_finite, allowed):
    found = bars(histogram("words", EDGES, counts, not_finite, allowed))
    assert len(found) == sum(rows > 0 for rows in (*counts, not_finite))
    beyond = [rows for edge, rows in zip([*EDGES, 1], counts, strict=True) if edge > allowed]
    assert sum("beyond" in kind for kind, *_ in found) == sum(rows > 0 for rows in (*beyond, not_finite))
    for _, x, y, width, height in found:
        assert 0 < x < x + width <= WIDTH
        assert 0 < y < y + height <= HEIGHT
        assert height > 1


def test_a_histogram_ends_a_little_beyond_what_is_allowed_or_at_its_last_row():
    few, far = ([9] + [0] * len(EDGES) for _ in range(2))
    far[-1] = 1
    assert "1e-01" not in histogram("words", EDGES, few, 0, 1e-5)
    assert "1e-01" in histogram("words", EDGES, far, 0, 1e-5)


def test_rows_that_are_not_finite_stand_apart_in_a_histogram():
    counts = [9] + [0] * len(EDGES)
    assert "NaN" not in histogram("words", EDGES, counts, 0, 1e-5)
    drawing = histogram("words", EDGES, counts, 4, 1e-5)
    assert ">NaN<" in drawing
    (_, x, *_), (kind, other, *_) = bars(drawing)
    assert kind == "bar beyond"
    assert other > x + 100
