"""What `pipeline verify` leaves for machines: parity.json and its schema, JUnit XML; and what it must not leave."""

import copy
import dataclasses
import json
import re
import shutil
from importlib.resources import files
from pathlib import Path
from xml.etree import ElementTree as ET

import jsonschema
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from pipeline.commands import main
from pipeline.errors import UsageError
from pipeline.run_directory import RunDirectory
from pipeline.verify import Check, ParityReport, verify, write_junit
from pipeline.verify.cases import Batch, Shape
from pipeline.verify.checks import parity
from pipeline.verify.compare import EDGES, Distance, Tolerance
from tests.report.written_run import write_run
from tests.verify.planted import classes_permuted, nan_at_one_length
from tests.verify.test_comparison import ROWS, Oracle

SCHEMA = json.loads((files("pipeline") / "schemas" / "parity.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def report_of(run: RunDirectory) -> dict:
    return json.loads((run / "parity.json").read_text())


@pytest.fixture(scope="module")
def failed_run(exported_run: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run that failed with flips and with numbers that are none."""
    path = tmp_path_factory.mktemp("failed") / "opinions-001"
    shutil.copytree(exported_run.path, path)
    run = RunDirectory.open(path)
    model = onnx.load(run / "model.onnx")
    classes_permuted(model)
    nan_at_one_length(model)
    onnx.save(model, run / "model.onnx")
    assert not verify(run).passed
    return run


def test_the_schema_is_one_and_describes_every_key() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)

    def undescribed(schema: dict, where: str):
        for name, inner in {**schema.get("properties", {}), **schema.get("$defs", {})}.items():
            described = inner if "$ref" not in inner else inner | SCHEMA["$defs"][inner["$ref"].split("/")[-1]]
            if "description" not in described:
                yield f"{where}/{name}"
            yield from undescribed(inner, f"{where}/{name}")

    assert list(undescribed(SCHEMA, "")) == []


@pytest.mark.parametrize("run_fixture", ["verified_run", "verified_feature_run", "failed_run"])
def test_real_reports_are_what_the_schema_says(run_fixture: str, request: pytest.FixtureRequest) -> None:
    report = report_of(request.getfixturevalue(run_fixture))
    assert [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(report)] == []


def test_the_report_that_the_tests_of_the_page_write_is_what_the_schema_says(tmp_path: Path) -> None:
    VALIDATOR.validate(report_of(write_run(tmp_path)))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("format",), 2),
        (("passed",), "true"),
        (("hashes", "model.onnx"), "ff"),
        (("hashes",), {}),
        (("tolerances", "cpu"), 0),
        (("note",), "more"),
        (("checks", "name"), ""),
        (("checks", "worst"), {}),
        (("checks", "measured", "rows"), -1),
        (("checks", "measured", "max_absolute"), "nan"),
        (("checks", "measured", "max_relativ"), 0.0),
        (("checks", "measured", "quantiles"), {"0.5": 0.0}),
        (("checks", "measured", "histogram", "counts"), [1, 2.5]),
        (("checks", "measured", "not_finite"), [0]),
        (("checks", "measured", "worst", "labels"), ["one"]),
        (("checks", "measured", "grid"), [{"batch": 0, "length": 1, "arrangement": "ragged", "max_absolute": 0}]),
        (("checks", "measured", "flipped"), [{"row": 1}]),
        (("goldens",), [{"probabilities": [1.0], "label": "a"}]),
    ],
    ids=lambda value: ".".join(value) if isinstance(value, tuple) else "",
)
def test_a_damaged_report_is_not_what_the_schema_says(place: tuple, value: object, verified_run: RunDirectory) -> None:
    report = copy.deepcopy(report_of(verified_run))
    found = report
    for name in place[:-1]:
        found = found[name]
        if isinstance(found, list):
            found = next(check for check in found if check["name"] == "grid")
    found[place[-1]] = value
    assert not VALIDATOR.is_valid(report)


@pytest.mark.parametrize("name", SCHEMA["required"])
def test_a_report_that_lacks_a_key_is_not_what_the_schema_says(name: str, verified_run: RunDirectory) -> None:
    report = report_of(verified_run)
    del report[name]
    assert not VALIDATOR.is_valid(report)


def test_the_grid_keeps_the_distance_at_every_shape_and_nan_is_no_small_one() -> None:
    def nan_in_pairs(rows: list[str], probabilities: np.ndarray) -> np.ndarray:
        return probabilities * np.where(len(rows) == 2, np.nan, 1).astype(np.float32)

    batches = [
        Batch("pair", ROWS[:2], Shape(2, 1, "uniform")),
        Batch("pair", ROWS[:3], Shape(3, 1, "uniform")),
        Batch("another", ROWS[:3]),
    ]
    grid = parity("p", Oracle(), Oracle(nan_in_pairs), batches, Tolerance(1e-5)).measured["grid"]
    assert [(at["batch"], at["length"], at["arrangement"]) for at in grid] == [(2, 1, "uniform"), (3, 1, "uniform")]
    assert np.isnan(grid[0]["max_absolute"])
    assert grid[1]["max_absolute"] == 0
    without = [Batch(batch.name, batch.rows) for batch in batches]
    by_batch = parity("p", Oracle(), Oracle(nan_in_pairs), without, Tolerance(1e-5)).measured["by_batch"]
    assert np.isnan(by_batch["pair"])
    assert by_batch["another"] == 0


def test_the_kept_flips_are_those_with_the_largest_margins_and_near_ones_are_counted() -> None:
    batches = [Batch("b", ["row 5"] * 60), Batch("c", ["row 4", "row 1"])]
    turned = Oracle(lambda _, probabilities: 1 - probabilities)
    measured = parity("p", Oracle(), turned, batches, Tolerance(1e-5)).measured
    assert (measured["flips"], measured["near_flips"]) == (2, 0)
    assert [flip["input"] for flip in measured["flipped"]] == ["'row 1'", "'row 4'"]
    renamed = Oracle()
    renamed.answer = lambda rows: dataclasses.replace(Oracle().answer(rows), labels=["b"] * len(rows))  # type: ignore[method-assign]
    measured = parity("p", Oracle(), renamed, [Batch("b", ["row 5"] * 60 + ["row 9"])], Tolerance(1e-5)).measured
    assert (measured["flips"], measured["near_flips"], len(measured["flipped"])) == (1, 60, 50)
    assert measured["flipped"][0]["input"] == "'row 9'"


@given(
    st.lists(st.sampled_from([0.0, 1e-12, 3e-4, *EDGES, 1.5, 7.0, np.nan]) | st.floats(0, 10), max_size=60),
    st.sampled_from([1e-11, 1e-5, 3e-4]),
    st.data(),
)
def test_a_histogram_counts_each_row_once_whatever_the_batches_and_has_an_edge_at_what_is_allowed(
    distances: list[float], allowed: float, data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(distances)))
    distance = Distance(Tolerance(allowed))
    for part in filter(None, (distances[:cut], distances[cut:])):
        distance.add(np.zeros((len(part), 1)), np.array(part)[:, None])
    histogram = distance.figures["histogram"]
    edges = histogram["edges"]
    assert edges == sorted({*EDGES, allowed})
    ranges = zip([-1.0, *edges], [*edges, np.inf], strict=True)
    assert histogram["counts"] == [sum(low < value <= high for value in distances) for low, high in ranges]
    assert histogram["not_finite"] == sum(np.isnan(distances))


def suites(path: Path) -> dict[str, ET.Element]:
    """Read JUnit XML as strictly as ``jenkins-junit.xsd``: elements in their order, attributes, counts that add up."""
    root = ET.parse(path).getroot()  # noqa: S314 - we wrote it
    allowed = {
        "testsuites": ({"name", "tests", "failures", "errors"}, r"(testsuite )*"),
        "testsuite": ({"name", "tests", "failures", "errors"}, r"(properties )?(testcase )*"),
        "properties": (set(), r"(property )+"),
        "property": ({"name", "value"}, ""),
        "testcase": ({"name", "classname"}, r"(failure )*(system-out )*"),
        "failure": ({"type", "message"}, ""),
        "system-out": (set(), ""),
    }
    for element in root.iter():
        attributes, children = allowed[element.tag]
        assert set(element.attrib) == attributes
        assert re.fullmatch(children, "".join(f"{child.tag} " for child in element))
    for element in (root, *root):
        assert int(element.get("tests")) == len(list(element.iter("testcase")))
        assert int(element.get("failures")) == len(list(element.iter("failure")))
    found = {suite.get("name"): suite for suite in root}
    assert len(found) == len(root)
    return found


def test_the_command_writes_junit_xml_of_every_check(failed_run: RunDirectory, copy_of, tmp_path: Path) -> None:
    run = copy_of(failed_run)
    result = CliRunner().invoke(main, ["verify", str(run.path), "--junit", str(tmp_path / "junit.xml")])
    assert result.exit_code == 3
    report, found = report_of(run), suites(tmp_path / "junit.xml")
    assert list(found) == ["files", "cpu"]
    cases = [case for suite in found.values() for case in suite.iter("testcase")]
    assert [(case.get("classname"), case.get("name")) for case in cases] == [
        (check["engine"], check["name"]) for check in report["checks"]
    ]
    for case, check in zip(cases, report["checks"], strict=True):
        failure = case.find("failure")
        assert (failure is None) == check["passed"]
        assert (case.findtext("system-out") if failure is None else failure.get("message")) == check["detail"]
    for suite in found.values():
        properties = {item.get("name"): item.get("value") for item in suite.iter("property")}
        assert properties["sha256.model.onnx"] == report["hashes"]["model.onnx"]
        assert properties["version.onnxruntime"] == report["versions"]["onnxruntime"]


@given(
    st.text(st.characters(), min_size=1)
    | st.sampled_from(["\0", "\x1b[31m", "\ud83d", "\ufffe", "]]>", '"<&>', "\r\n"])
)
def test_no_text_makes_invalid_junit_xml(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.xml"
    checks = (Check("files", "good", True, text), Check("files", text, False, text))
    write_junit(ParityReport({"model.onnx": text}, {}, {}, checks, (Check(f"grpc://{text}", "x", True, ""),), ()), path)
    found = suites(path)
    assert len(found) == 2
    (failure,) = found["files"].iter("failure")
    assert failure.text == failure.get("message").replace("\r\n", "\n").replace("\r", "\n")
    if text.isprintable():
        assert found["files"].findall("testcase")[1].get("name") == text


def test_a_control_character_is_written_as_python_writes_it(tmp_path: Path) -> None:
    checks = (Check("files", "a", False, "red \x1b[31m \0 \ud83d"),)
    write_junit(ParityReport({}, {"v": "1"}, {}, checks, (), ()), tmp_path / "junit.xml")
    (failure,) = suites(tmp_path / "junit.xml")["files"].iter("failure")
    assert failure.text == r"red \x1b[31m \x00 \ud83d"


def contents(run: RunDirectory) -> dict[Path, tuple[bytes, int]]:
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in run.path.rglob("*") if path.is_file()}


def test_a_named_check_is_made_alone_and_nothing_is_written(verified_run: RunDirectory, copy_of) -> None:
    run = copy_of(verified_run)
    before = contents(run)
    result = CliRunner().invoke(main, ["verify", str(run.path), "--only", "padded", "--only", "vocabulary"])
    assert result.exit_code == 0
    assert [line.split()[2] for line in result.stdout.splitlines()] == ["vocabulary", "padded"]
    assert "no verification: parity.json is as it was" in result.stderr
    assert contents(run) == before


def test_a_named_check_that_fails_exits_3_and_one_that_holds_does_not_verify(failed_run: RunDirectory, copy_of) -> None:
    run = copy_of(failed_run)
    (run / "parity.json").unlink()
    result = CliRunner().invoke(main, ["verify", str(run.path), "--only", "grid"])
    assert result.exit_code == 3
    assert "not verified: cpu grid" in result.stderr
    assert CliRunner().invoke(main, ["verify", str(run.path), "--only", "repeated"]).exit_code == 0
    assert not (run / "parity.json").exists()


def test_a_check_that_was_not_asked_for_costs_nothing(verified_run: RunDirectory, monkeypatch) -> None:
    asked = []

    def noting(name: str, *rest: object) -> Check:
        asked.append(name)
        return parity(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("pipeline.verify.pair.checks.parity", noting)
    verify(verified_run, only=("vocabulary",))
    assert "vocabulary" in asked
    assert "grid" not in asked
    assert "held-out rows" not in asked


def test_an_unknown_check_is_a_usage_error_that_names_those_there_are(verified_run: RunDirectory) -> None:
    with pytest.raises(UsageError, match=r"no check grdi is made here; there are hashes, graph, .*grid, .*threads"):
        verify(verified_run, only=("grid", "grdi"))


def test_a_model_that_cannot_be_loaded_fails_a_named_check_too(exported_run: RunDirectory, copy_of) -> None:
    run = copy_of(exported_run)
    (run / "model.onnx").write_bytes(b"nothing")
    report = verify(run, only=("grid",))
    assert [check.name for check in report.checks] == ["load"]
    assert report.failures


@pytest.mark.parametrize("option", ["--json", "--junit=x.xml"])
def test_a_part_of_the_checks_is_never_written_as_the_whole(option: str, verified_run: RunDirectory) -> None:
    result = CliRunner().invoke(main, ["verify", str(verified_run.path), "--only", "grid", option])
    assert result.exit_code == 2
    assert "--only makes a part of the checks" in result.stderr
