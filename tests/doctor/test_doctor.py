import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline import doctor
from pipeline.commands import main


def findings(**changes: object) -> dict[str, doctor.Finding]:
    return {finding.name: finding for finding in doctor.examine(**changes)}


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages that comes before all others."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_everything_that_is_required_is_here_and_nothing_wrong_is_without_advice():
    for finding in doctor.examine():
        assert finding.is_ok or not finding.is_required, finding
        assert finding.is_ok != bool(finding.advice), finding


def test_the_command_prints_a_line_for_each_finding_and_exits_with_0():
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 0
    for name in (
        "python",
        "torch",
        "onnxruntime",
        "nvidia-pytriton",
        "libpython",
        "shared memory",
        "port 8001",
        "docker",
    ):
        assert f" {name} " in result.stdout
    assert "MISSING" not in result.stdout


def test_json_holds_the_same_findings():
    report = json.loads(CliRunner().invoke(main, ["doctor", "--json"]).stdout)
    assert report["ok"] is True
    assert {item["name"] for item in report["findings"]} == findings().keys()


def test_a_missing_libpython_is_required_once_the_wheel_is_here(monkeypatch):
    monkeypatch.setattr("pipeline.triton.PYTHON", "3.99")
    monkeypatch.setattr("pipeline.triton.PYTHONS", ("3.99",))
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 1
    assert "MISSING  libpython" in result.stdout
    assert "apt-get install libpython3.99" in result.stdout


def test_a_missing_wheel_is_told_but_not_required(shelf):
    (shelf / "pytriton").mkdir()
    (shelf / "pytriton" / "__init__.py").touch()
    wheel = findings()["nvidia-pytriton"]
    assert (wheel.is_ok, wheel.is_required) == (False, False)
    assert "pip install 'pipeline[serve]'" in wheel.advice


def test_a_python_too_new_to_serve_is_told_but_not_required(monkeypatch):
    monkeypatch.setattr("pipeline.triton.PYTHON", "3.13")
    wheel = findings()["nvidia-pytriton"]
    assert (wheel.is_ok, wheel.is_required) == (False, False)
    assert "Python 3.11 and 3.12 only" in wheel.advice
    assert "libpython" not in findings()


def describe(shelf: Path, name: str, *requirements: str) -> None:
    info = shelf / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    lines = [f"Name: {name}", "Version: 1.0", *(f"Requires-Dist: {requirement}" for requirement in requirements)]
    (info / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", *lines, ""]))


def test_the_packages_are_those_that_the_distribution_asks_for_without_its_extras(shelf):
    describe(shelf, "pipeline", "click>=8.2", "no-such-package[grpc]>=2", 'no-such-tool>=9; extra == "dev"')
    found = findings()
    assert found["click"].is_ok
    assert (found["no-such-package"].is_ok, found["no-such-package"].is_required) == (False, True)
    assert not {"no-such-tool", "torch"} & found.keys()


def test_a_distribution_that_is_not_installed_is_told(monkeypatch):
    monkeypatch.setattr(doctor, "DISTRIBUTION", "no-such-distribution")
    finding = findings()["no-such-distribution"]
    assert (finding.is_ok, finding.is_required, finding.found) == (False, False, "not installed")
    assert "pip install" in finding.advice


def test_two_onnx_runtimes_in_one_environment_are_wrong(shelf):
    for name in doctor.RUNTIMES:
        describe(shelf, name)
    finding = findings()["onnxruntime"]
    assert not finding.is_ok
    assert "uninstall both" in finding.advice


def test_a_package_that_is_not_installed_is_required():
    finding = doctor._package("no-such-package-anywhere")
    assert (finding.is_ok, finding.is_required, finding.found) == (False, True, "not installed")


def test_a_port_in_use_is_told_with_the_option_that_changes_it():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        finding = doctor._port(taken.getsockname()[1], "gRPC")
    assert not finding.is_ok
    assert finding.found == "Address already in use"
    assert "--grpc-port" in finding.advice


def test_shared_memory_that_cannot_be_written_is_required(tmp_path):
    finding = doctor._shared_memory(tmp_path / "nowhere")
    assert (finding.is_ok, finding.is_required) == (False, True)
    assert "--shm-size" in finding.advice


def test_a_program_is_looked_for_and_run():
    assert doctor._program("python", (sys.executable, "--version")).is_ok
    assert doctor._program("nothing", ("no-such-program",)).found == "not found"
    broken = doctor._program("broken", (sys.executable, "-c", "raise SystemExit('no engine')"))
    assert (broken.is_ok, broken.found) == (False, "no engine")


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from click.testing import CliRunner; from pipeline.commands import main; "
        "assert CliRunner().invoke(main, ['doctor', '-h']).exit_code == 0; "
        "print([name for name in ('numpy', 'torch', 'onnxruntime') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
