import json
import re

import pytest

from pipeline.report import write_report
from tests.report.reading import Page
from tests.report.written_run import change, check, write_run


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path)


def page_of(run, data=None):
    page = Page(write_report(run, data))
    assert page.problems == []
    return page


def changed_grid(run, **measured):
    """Let the only check be a grid that failed so."""
    grid = json.loads((run / "parity.json").read_text())["checks"][1]
    failed = grid | {"passed": False, "measured": grid["measured"] | measured}
    change(run / "parity.json", passed=False, checks=[failed], endpoint_checks=[])


def places(**distances):
    return [
        {"batch": 7, "length": length, "arrangement": "ragged", "max_absolute": distances[f"at_{length}"]}
        for length in (1, 2, 3, 4)
    ]


def cells(page):
    table = re.search(r'<table class="heat">(.*?)</table>', page.source, re.DOTALL)
    return re.findall(r'<td(?: class="(bad)")? style="--depth: ([\d.]+)">([^<]*)</td>', table[1])


def test_each_engine_has_a_heat_map_with_a_figure_at_every_shape(run):
    page = page_of(run)
    assert page.source.count('<table class="heat">') == 2
    assert "Largest |Δ probability| by shape: ONNX Runtime, CPU, grid; allowed 1e-05" in page.text
    assert "Largest |Δ probability| by shape: Triton at 127.0.0.1:8001, grid; allowed 1e-05" in page.text
    assert [text for _, _, text in cells(page)] == ["3.2e-07"] * 2 * 2 * 3
    assert "batch lengths greatest length 1 3 1 uniform 3.2e-07 3.2e-07 ragged" in page.text


def test_a_shade_is_deeper_the_nearer_a_figure_comes_to_what_is_allowed(run):
    changed_grid(run, grid=places(at_1=0.0, at_2=1e-9, at_3=1e-7, at_4=1e-5))
    assert cells(page_of(run)) == [
        ("", "0.00", "0"),
        ("", "0.00", "1e-09"),
        ("", "0.50", "1e-07"),
        ("", "1.00", "1e-05"),
    ]


def test_what_is_beyond_or_not_a_number_is_marked_in_a_heat_map(run):
    changed_grid(run, grid=places(at_1=1.01e-5, at_2=None, at_3=0.25, at_4=9.9e-6))
    found = cells(page_of(run))
    assert [(bad, text) for bad, _, text in found[:3]] == [("bad", "1e-05"), ("bad", "NaN"), ("bad", "2.5e-01")]
    assert found[3][0] == ""


def test_a_shape_that_was_not_asked_has_a_dash(run):
    other = {"batch": 1, "length": 4, "arrangement": "ragged", "max_absolute": 1e-7}
    changed_grid(run, grid=[*places(at_1=0.0, at_2=0.0, at_3=0.0, at_4=0.0)[:3], other])
    assert [text for *_, text in cells(page_of(run))] == ["–", "–", "–", "1e-07", "0", "0", "0", "–"]


def test_a_histogram_says_how_many_rows_are_beyond_what_is_allowed(run):
    changed_grid(run, histogram={"edges": [1e-6, 1e-5, 1e-4], "counts": [1000, 20, 3, 4], "not_finite": 5})
    page = page_of(run)
    assert "ONNX Runtime, CPU: 1,032 rows, 7 beyond the allowed 1e-05, 5 not finite." in page.text
    assert "up to 1e-05 20 up to 1e-04 3 above 1e-04 4 not finite 5" in page.text
    assert page.source.count('class="bar beyond"') == 2 * 3, "the engine's, and the check's own"


def test_checks_of_one_engine_and_tolerance_share_a_histogram(run):
    parity = json.loads((run / "parity.json").read_text())
    grid = parity["checks"][1]
    strict = grid | {"name": "padded", "measured": grid["measured"] | {"allowed": 1e-6}}
    change(run / "parity.json", checks=[grid, grid | {"name": "held-out rows"}, strict], endpoint_checks=[])
    text = page_of(run).text
    assert "ONNX Runtime, CPU: 1,776 rows, 0 beyond the allowed 1e-05 (grid, held-out rows)." in text
    assert "ONNX Runtime, CPU: 888 rows, 0 beyond the allowed 1e-06." in text


def test_flips_are_shown_with_their_texts_the_decided_ones_marked(run):
    flip = {"batch": "test rows", "row": 3, "input": "'so <b>calm</b>'", "margin": 0.25, "labels": ["calm", "angry"]}
    near = flip | {"row": 4, "input": "'even'", "margin": 1e-5}
    broken = flip | {"row": 5, "input": "'nothing'", "margin": None}
    changed_grid(run, flips=2, near_flips=1, flipped=[broken, flip, near])
    page = page_of(run)
    assert not page.of("b")
    assert "ONNX Runtime, CPU, grid: 2 flips beyond the allowed 1e-05, 1 within it" in page.text
    assert "'nothing' calm angry not finite beyond the tolerance test rows, row 5" in page.text
    assert "'so <b>calm</b>' calm angry 0.2500 beyond the tolerance test rows, row 3" in page.text
    assert "'even' calm angry 1e-05 near: within the tolerance test rows, row 4" in page.text
    assert page.source.count('<td class="bad short">beyond') == 2


def test_many_flips_are_cut_and_whole_in_a_fold(run):
    flip = {"batch": "b", "margin": 0.25, "labels": ["calm", "angry"]}
    changed_grid(run, flips=60, near_flips=0, flipped=[flip | {"row": row, "input": f"'{row}'"} for row in range(50)])
    text = page_of(run).text
    assert "60 flips beyond the allowed 1e-05, 0 within it; the 10 with the largest margins" in text
    assert "60 flips beyond the allowed 1e-05, 0 within it; the 50 with the largest margins" in text
    assert text.count("b, row 9 ") == 2
    assert text.count("b, row 10 ") == 1


def test_no_flip_is_said_with_the_rows_it_was_looked_for_in(run):
    changed_grid(run, flipped=[], near_flips=0)
    assert "No label differs in 888 rows compared." in page_of(run).text


def test_a_report_without_distances_by_shape_has_a_page(run):
    change(run / "parity.json", checks=[check("files", "hashes", measured={"changed": []})], endpoint_checks=[])
    text = page_of(run).text
    assert "No check has compared answers by shape or row." in text
    assert "No check has compared labels." in text


@pytest.mark.parametrize(
    ("engine", "name", "options"),
    [
        ("files", "weights", " --only weights"),
        ("cpu", "held-out rows", " --only 'held-out rows'"),
        ("cuda", "grid", " --engine cuda --only grid"),
        ("cuda", "load", " --engine cuda"),
        ("grpc://127.0.0.1:8001", "padded", " --engine grpc://127.0.0.1:8001 --only padded"),
        ("grpc://127.0.0.1:8001", "answers", " --engine grpc://127.0.0.1:8001"),
    ],
)
def test_every_failure_has_the_command_that_makes_it_again(run, engine, name, options):
    failed = check(engine, name, passed=False, detail="so <i>wrong</i>", measured={})
    change(run / "parity.json", passed=False, checks=[failed], endpoint_checks=[])
    page = page_of(run)
    assert f"<code>pipeline verify {run.path}{options.replace(chr(39), '&#39;')}</code>" in page.source
    assert f"{name}: so <i>wrong</i>" in page.text


def test_the_command_of_a_failure_names_a_data_set_that_was_moved(run, tmp_path):
    change(run / "parity.json", passed=False, checks=[check("files", "graph", passed=False, measured={})])
    (tmp_path / "data").rename(tmp_path / "else where")
    command = f"pipeline verify {run.path} --data '{tmp_path}/else where' --only graph"
    assert command in page_of(run, tmp_path / "else where").text


@pytest.mark.parametrize("fixture", ["verified_run", "verified_feature_run"])
def test_a_real_run_has_a_map_of_every_shape_and_a_histogram_of_every_row(fixture, copy_of, request):
    run = copy_of(request.getfixturevalue(fixture))
    checks = {found["name"]: found["measured"] for found in json.loads((run / "parity.json").read_text())["checks"]}
    page = page_of(run)
    shapes = {(at["batch"], at["length"], at["arrangement"]) for at in checks["grid"]["grid"]}
    assert len(cells(page)) == len(shapes) == 4 * 4 * 3
    compared = [measured for measured in checks.values() if "histogram" in measured]
    strict = sum(measured["rows"] for measured in compared if measured["allowed"] == 1e-6)
    assert f"{strict:,} rows, 0 beyond the allowed 1e-06" in page.text
