"""The variants' section: every figure of the record, and the reasons of those that fell."""

import json
from typing import Any

import pytest

from pipeline.errors import RunError
from pipeline.files import sha256_of, write_json
from pipeline.report import write_report
from pipeline.run_directory import RunDirectory
from tests.report.reading import Page
from tests.report.written_run import change, write_run


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    run = write_run(tmp_path)
    write_json(run / "variants.json", _variants(sha256_of(run / "model.onnx")))
    return run


def text_of(run: RunDirectory) -> str:
    page = Page(write_report(run))
    assert page.problems == []
    return page.text


def test_the_table_says_the_numbers_of_the_record_and_why_a_variant_fell(run) -> None:
    text = text_of(run)
    for number in (
        "Measured on 1,111 validation rows",
        "Fastest of those that were kept: int8.",
        *("87.31 %", "0.0312", "2.2e-07, 1 flip", "20,056,298", "2,071, 2.16 × fp32", "3,114, 1.92 × fp32"),
        "fp16 fell. labels: 6 of 1,111 flip; company: moved. It passes with one of these in full precision: layer/1.",
        "bf16 fell. no kernel.",
    ):
        assert number in text


def test_a_run_without_variants_names_the_command(run) -> None:
    (run / "variants.json").unlink()
    assert "Make it with pipeline export --variants auto " in text_of(run)


def test_the_commands_that_make_the_run_again_export_its_variants_and_ask_no_engine_of_that_name(run) -> None:
    parity = json.loads((run / "parity.json").read_text())
    for engine in ("int8", "int8 files"):
        check = {"engine": engine, "name": "labels", "passed": False, "detail": "6 flip", "measured": {}}
        parity["checks"].append(check)
    write_json(run / "parity.json", parity)
    text = text_of(run)
    assert 'pipeline export "$RUN" --variants auto' in text
    assert "Variant int8, its file" in text
    assert "--engine int8" not in text


def test_variants_of_another_model_are_not_shown(run) -> None:
    change(run / "variants.json", model_sha256="ab" * 32)
    text = text_of(run)
    assert "variants.json belongs to another model" in text
    assert "20,056,298" not in text


def test_a_damaged_record_is_one_line(run) -> None:
    change(run / "variants.json", variants=[{"name": "int8"}])
    with pytest.raises(RunError, match="variants.json: not what `pipeline export --variants auto` writes"):
        write_report(run)


def _variants(model_sha256: str) -> dict[str, Any]:
    figures = {
        "accuracy": 0.8731,
        "flips": 3,
        "calibration_error": 0.0312,
        "company_difference": 2.2e-7,
        "company_flips": 1,
    }
    speeds = {
        "1": {"rows_per_second": 2071.4, "fp32_rows_per_second": 960, "ratio": 2.16},
        "64": {"rows_per_second": 3114.2, "fp32_rows_per_second": 1622, "ratio": 1.92},
    }
    fell = {"name": "fp16", "outcome": "fell", "bytes": 5, "figures": figures, "speeds": speeds}
    return {
        "format": 1,
        "model_sha256": model_sha256,
        "rows": 1111,
        "batch_size": 64,
        "fp32": {"bytes": 22821418, **figures},
        "variants": [
            {"name": "int8", "outcome": "kept", "bytes": 20056298, "figures": figures, "speeds": speeds},
            fell | {"reasons": ["labels: 6 of 1,111 flip", "company: moved"], "repaired_by": ["layer/1"]},
            {"name": "bf16", "outcome": "fell", "reasons": ["no kernel"], "repaired_by": []},
        ],
        "chosen": "int8",
    }
