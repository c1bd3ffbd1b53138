import json

import pytest

from pipeline.drift import drift
from pipeline.errors import RunError
from pipeline.files import write_json
from pipeline.report import write_report
from pipeline.run_directory import RunDirectory
from tests.drift.logs import answered, drawn, said, write_log
from tests.report.reading import Page


@pytest.fixture(scope="module")
def run(exported_run: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run whose requests became longer in the second half."""
    import shutil

    path = tmp_path_factory.mktemp("drift_page") / exported_run.path.name
    shutil.copytree(exported_run.path, path)
    run = RunDirectory.open(path)
    requests = drawn(answered(run), 300)
    requests[150:] = [said(request, f"{request.text} {request.text}") for request in requests[150:]]
    drift(run, [str(write_log(path.parent / "<i>.jsonl", run, requests))], window="150")
    return run


def page_of(run: RunDirectory) -> Page:
    page = Page(write_report(run))
    assert page.problems == []
    return page


def test_the_page_says_what_the_record_does(run) -> None:
    record = json.loads((run / "drift.json").read_text())
    page = page_of(run)
    assert "Beyond what is allowed over all requests or in the last window: length." in page.text
    assert f"300 of {run.info['name']} version 1" in page.text
    assert "<i>.jsonl 300 requests" in page.text
    for measure in record["measures"]:
        if measure["name"] in ("length", "confidence", "label"):
            assert f"{measure['value']:.3f} {measure['allowed']:.3f} {measure['noise']:.3f}" in page.text
    for name, known, found in record["measures"][0]["bins"]:
        assert f"{name} {known:.2%} {found:.2%}".replace("%", " %") in page.text
    assert "Length: distance in each window of 150, and what is allowed." in page.text
    assert "2 request 151 150" in page.text


def test_the_drift_of_another_model_is_not_shown(run, copy_of) -> None:
    other = copy_of(run)
    write_json(other / "drift.json", json.loads((other / "drift.json").read_text()) | {"model_sha256": "0" * 64})
    text = page_of(other).text
    assert "drift.json belongs to another model" in text
    assert "Beyond what is allowed" not in text


def test_a_run_without_requests_names_the_command(exported_run, copy_of) -> None:
    run = copy_of(exported_run)
    assert f"No requests were compared yet. pipeline drift {run.path} LOG does it." in page_of(run).text


@pytest.mark.parametrize("change", [{"measures": [{}]}, {"windows": [{"measures": {}}]}, {"damaged": None}])
def test_a_record_that_was_edited_gives_one_line(run, copy_of, change) -> None:
    edited = copy_of(run)
    write_json(edited / "drift.json", json.loads((edited / "drift.json").read_text()) | change)
    with pytest.raises(RunError, match=r"drift\.json: not what `pipeline drift` writes .*Run it again"):
        write_report(edited)
