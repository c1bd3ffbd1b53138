"""Every fault in the files is caught by a named check; healthy files pass."""

import json

import onnx
import pytest
from click.testing import CliRunner

from pipeline.commands import main
from pipeline.files import sha256_of
from pipeline.run_directory import RunDirectory
from pipeline.verify import ParityReport, verify
from tests.verify.planted import FAULTS, Edit, label_names_swapped, one_weight, plant, vocabulary_entries_swapped


def failed(report: ParityReport) -> set[str]:
    return {check.name for check in report.checks if not check.passed}


@pytest.mark.parametrize(("fault", "caught_by"), FAULTS, ids=lambda value: getattr(value, "__name__", value))
def test_a_planted_fault_is_caught_by_name_even_when_the_hashes_were_made_to_fit(
    fault: Edit, caught_by: str, exported_run: RunDirectory, copy_of
) -> None:
    run = copy_of(exported_run)
    plant(run, fault)
    report = verify(run)
    assert caught_by in failed(report)
    assert "hashes" not in failed(report)
    assert json.loads((run / "parity.json").read_text())["passed"] is False


@pytest.mark.parametrize("offset", [0.25, 0.5, 0.999])
def test_one_changed_byte_is_caught_and_the_command_exits_3(offset: float, exported_run: RunDirectory, copy_of) -> None:
    run = copy_of(exported_run)
    content = bytearray((run / "model.onnx").read_bytes())
    content[int(len(content) * offset)] ^= 1
    (run / "model.onnx").write_bytes(content)
    result = CliRunner().invoke(main, ["verify", str(run.path)])
    assert result.exit_code == 3
    assert "changed since export: model.onnx" in result.stdout
    assert "not verified: files hashes" in result.stderr


@pytest.mark.parametrize("fault", [one_weight, label_names_swapped, vocabulary_entries_swapped])
def test_one_changed_weight_label_or_vocabulary_entry_makes_the_command_exit_3(
    fault: Edit, exported_run: RunDirectory, copy_of
) -> None:
    run = copy_of(exported_run)
    model = onnx.load(run / "model.onnx")
    fault(model)
    onnx.save(model, run / "model.onnx")
    result = CliRunner().invoke(main, ["verify", str(run.path)])
    assert result.exit_code == 3
    assert "not verified: files hashes, " in result.stderr


def test_a_truncated_model_is_caught_without_a_traceback(exported_run: RunDirectory, copy_of) -> None:
    run = copy_of(exported_run)
    (run / "model.onnx").write_bytes((run / "model.onnx").read_bytes()[:1000])
    assert {"hashes", "graph", "load"} <= failed(verify(run))


def test_a_class_renamed_in_the_signature_is_caught(exported_run: RunDirectory, copy_of) -> None:
    run = copy_of(exported_run)
    text = (run / "signature.json").read_text()
    (run / "signature.json").write_text(text.replace("praise", "prize"))
    assert "graph" in failed(verify(run))


def test_a_healthy_run_passes_every_check_within_the_promised_tolerances(verified_run: RunDirectory) -> None:
    report = json.loads((verified_run / "parity.json").read_text())
    assert report["passed"] is True
    measured = {check["name"]: check["measured"] for check in report["checks"]}
    assert set(measured) == {
        "hashes", "graph", "weights", "grid", "held-out rows", "vocabulary", "hostile texts", "drawn texts",
        "padded", "repeated", "mixed", "split", "shuffled", "hostile neighbours",
        "float64", "optimisation", "threads",
    }  # fmt: skip
    assert all(measured[name]["max_absolute"] <= 1e-5 for name in ("grid", "held-out rows", "vocabulary"))
    assert all(measured[name]["max_absolute"] <= 1e-6 for name in ("padded", "mixed", "shuffled", "hostile neighbours"))
    assert measured["grid"]["rows"] == 4 * 3 * (1 + 2 + 7 + 64)


def test_parity_names_the_bytes_it_is_about(verified_run: RunDirectory) -> None:
    report = json.loads((verified_run / "parity.json").read_text())
    for name, digest in report["hashes"].items():
        assert sha256_of(verified_run / name) == digest
    assert {"torch", "onnx", "onnxruntime"} <= set(report["versions"])
