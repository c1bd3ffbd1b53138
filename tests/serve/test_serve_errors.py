"""Whatever keeps a server from starting: one clear line and the right exit code."""

import errno
import os
import platform
import socket
import subprocess
import sys
import sysconfig
import tempfile
from contextlib import ExitStack
from pathlib import Path
from threading import Event as Flag

import pytest
from click.testing import CliRunner
from tritonclient.grpc import model_config_pb2

from pipeline.commands import main
from pipeline.errors import RepositoryError, ServerError, UsageError
from pipeline.serve import Options, running, supervise
from pipeline.serve.network import check_address, is_in_container
from pipeline.serve.process import Process, ServerLost
from pipeline.triton import find_libpython, find_triton
from tests.serve.asking import eventually
from tests.serve.tiny_models import place, text_config, text_model


def refuse(repository: Path, **changes: object) -> None:
    """Try to serve; whatever is refused is refused before or at the first start."""
    ports = {"http_port": 0, "grpc_port": 0, "metrics_port": 0}
    for _ in supervise(Options(repository, **{**ports, **changes}), Flag()):
        pytest.fail("it was served")


def test_no_repository_is_refused_and_publish_is_named(tmp_path):
    (tmp_path / "file").touch()
    for name in ("nowhere", "file"):
        with pytest.raises(UsageError, match=rf"{name}: no such model repository.*pipeline publish"):
            refuse(tmp_path / name)


def test_an_empty_repository_is_refused_and_publish_is_named(tmp_path):
    (tmp_path / "words").mkdir()
    with pytest.raises(RepositoryError, match=r"no model to serve.*pipeline publish"):
        refuse(tmp_path)


def test_a_repository_that_cannot_be_read_is_told_from_one_that_is_not_there(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(RepositoryError, match=r"loop: cannot be read: Too many levels of symbolic links"):
        refuse(tmp_path / "loop")


def test_a_model_that_is_not_there_is_refused_and_the_others_are_named(words):
    with pytest.raises(UsageError, match=r"no model named wrods; there are words"):
        refuse(words, models=("wrods",))


def test_a_port_in_use_is_refused_and_the_option_is_named(words):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServerError, match=rf"127.0.0.1: port {port}: Address already in use.* --grpc-port 0\.$"):
            refuse(words, grpc_port=port)


def test_all_ports_in_use_are_named_at_once_with_the_options_to_change(words):
    with ExitStack() as stack:
        taken = [stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(3)]
        reasons = "; ".join(f"port {port}: Address already in use" for port in taken)
        flags = "--http-port 0 --grpc-port 0 --metrics-port 0"
        with pytest.raises(ServerError, match=rf"^127.0.0.1: {reasons}\. Choose others, .* {flags}\.$"):
            refuse(words, **dict(zip(("http_port", "grpc_port", "metrics_port"), taken, strict=True)))


def test_one_port_for_two_services_is_refused(words):
    with pytest.raises(UsageError, match=r"three different ports"):
        refuse(words, grpc_port=8123, http_port=8123)


@pytest.mark.parametrize("address", ["0.0.0.0", "192.168.1.2", "::"])  # noqa: S104
def test_an_address_that_others_reach_is_refused_outside_a_container(address):
    with pytest.raises(UsageError, match=r"loopback only.*deploy/"):
        check_address(address, is_container=False)
    check_address(address, is_container=True)
    check_address("127.0.0.1", is_container=False)


def test_an_address_that_is_none_is_refused():
    with pytest.raises(UsageError, match=r"not an IP address"):
        check_address("localhost", is_container=True)


def test_a_container_is_known_by_its_marks(tmp_path):
    assert not is_in_container(tmp_path, {})
    assert is_in_container(tmp_path, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    (tmp_path / ".dockerenv").touch()
    assert is_in_container(tmp_path, {})


def test_a_model_that_cannot_be_loaded_is_refused_with_tritons_reason(tmp_path):
    place(tmp_path, text_config("words"), b"no ONNX at all")
    with pytest.raises(ServerError, match=r"^[^\n]*words: cannot be served: [^\n]*model.onnx[^\n]*$"):
        refuse(tmp_path)


def test_a_configuration_that_is_cut_off_is_refused(words):
    config = words / "words" / "config.pbtxt"
    config.write_text(config.read_text()[:40])
    with pytest.raises(ServerError, match=r"words: cannot be served: .*config.pbtxt"):
        refuse(words)


def test_a_model_that_insists_on_a_gpu_is_refused_where_there_is_none(tmp_path):
    config = text_config("words")
    config.instance_group[0].kind = model_config_pb2.ModelInstanceGroup.KIND_GPU
    place(tmp_path, config, text_model().SerializeToString())
    with pytest.raises(ServerError, match=r"words: cannot be served: .*GPU"):
        refuse(tmp_path)


def test_a_configuration_of_another_model_is_refused_as_the_cpp_backend_does(tmp_path):
    named, sized, typed, short = (text_config(name) for name in ("named", "sized", "typed", "short"))
    named.output[0].name = "logits"
    sized.output[0].dims[0] = 5
    typed.output[2].data_type = model_config_pb2.TYPE_INT64
    del short.input[0]
    short.input.add(name="features", data_type=model_config_pb2.TYPE_FP32, dims=[1])
    reasons = {
        "named": r"the model has outputs \['label', 'probabilities', 'valid'\], the configuration .*'logits'",
        "sized": r"output probabilities: .* has tensor\(float\) \[-1, 3\], the configuration TYPE_FP32 \[-1, 5\]$",
        "typed": r"output valid: the model has tensor\(bool\) \[-1, 1\], the configuration TYPE_INT64 \[-1, 1\]$",
        "short": r"the model has inputs \['text'\], the configuration \['features'\]$",
    }
    for config in (named, sized, typed, short):
        place(tmp_path / "repository", config, text_model().SerializeToString())
    for name, reason in reasons.items():
        with pytest.raises(ServerError, match=reason):
            refuse(tmp_path / "repository", models=(name,))


def test_a_thread_count_that_is_no_number_is_refused(tmp_path):
    config = text_config("words")
    config.parameters["intra_op_thread_count"].string_value = "many"
    place(tmp_path, config, text_model().SerializeToString())
    with pytest.raises(ServerError, match=r"intra_op_thread_count: wanted a whole number, got 'many'$"):
        refuse(tmp_path)


def test_loading_that_takes_too_long_is_refused_and_the_option_is_named(words):
    with pytest.raises(ServerError, match=r"still loading after 0.01 s.*--timeout-seconds"):
        refuse(words, timeout_seconds=0.01)


def test_a_missing_wheel_is_told_with_what_to_install(words, tmp_path, monkeypatch):
    (tmp_path / "shadow" / "pytriton").mkdir(parents=True)
    (tmp_path / "shadow" / "pytriton" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path / "shadow")
    with pytest.raises(ServerError, match=r"pip install 'pipeline\[serve\]'"):
        refuse(words)


def test_a_missing_libpython_is_told_with_the_package_that_has_it(monkeypatch):
    assert find_libpython().is_file()
    monkeypatch.setattr("pipeline.triton.PYTHON", "3.99")
    monkeypatch.setattr("pipeline.triton.PYTHONS", ("3.99",))
    with pytest.raises(ServerError, match=r"apt-get install libpython3.99"):
        find_libpython()
    with pytest.raises(ServerError, match=r"Python 3.99: the wheel's Triton has no stub for it, only for 3.10, 3.11"):
        find_triton()


@pytest.mark.parametrize("version", ["3.10", "3.13"])
def test_a_python_that_has_a_stub_and_no_old_numpy_is_told_which_ones_serve(words, version, monkeypatch):
    monkeypatch.setattr("pipeline.triton.PYTHON", version)
    with pytest.raises(ServerError, match=rf"Python {version}: the wheel's Triton runs in Python 3.11 and 3.12 only"):
        refuse(words)


def test_a_temporary_folder_without_room_ends_in_one_line(words):
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); "
        "from pipeline.commands import main; main()"
    )
    ports = [f"--{service}-port=0" for service in ("http", "grpc", "metrics")]
    command = [sys.executable, "-c", code, "serve", str(words), *ports]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 1
    assert ended.stderr.startswith("pipeline: no temporary folder to serve from: File too large. ")
    assert "TMPDIR" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_no_temporary_folder_is_told_with_the_variable_that_names_another(words, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(ServerError, match=r"no temporary folder to serve from: No such file.*TMPDIR"):
        refuse(words)


@pytest.mark.parametrize("machine", ["aarch64", "arm64"])
def test_another_kind_of_machine_is_told_to_use_the_container(machine, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(ServerError, match=r"Linux x86-64 only.*deploy/"):
        find_triton()


@pytest.mark.parametrize(("name", "exit_code"), [("nowhere", 2), ("empty", 1)])
def test_the_command_prints_one_line_and_exits_with_2_for_a_wrong_path(tmp_path, name, exit_code):
    (tmp_path / "empty").mkdir()
    result = CliRunner().invoke(main, ["serve", str(tmp_path / name)])
    assert result.exit_code == exit_code
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


@pytest.mark.parametrize(("folder", "reason"), [("nowhere", "No such file"), ("file", "Not a directory")])
def test_a_ready_file_that_cannot_be_written_is_refused_before_anything_starts(words, tmp_path, folder, reason):
    (tmp_path / "file").touch()
    ready_file = tmp_path / folder / "ready.json"
    result = CliRunner().invoke(main, ["serve", str(words), "--log-verbose", "--ready-file", str(ready_file)])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"pipeline: --ready-file {ready_file}: cannot be written: {reason}")
    assert result.stderr.count("\n") == 1


def test_help_loads_no_server_library():
    code = (
        "import sys; from click.testing import CliRunner; from pipeline.commands import main; "
        "assert CliRunner().invoke(main, ['serve', '-h']).exit_code == 0; "
        "print([name for name in ('numpy', 'grpc', 'tritonclient', 'onnxruntime') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_nothing_of_the_users_folder_is_imported_by_the_stub(words, monkeypatch):
    for name in ("numpy.py", "json.py"):
        (words / name).write_text("raise SystemExit('imported')\n")
    monkeypatch.chdir(words)
    monkeypatch.setenv("PYTHONPATH", str(words))
    monkeypatch.setenv("PYTHONHOME", str(Path(sysconfig.get_path("stdlib"))))
    with running(words) as server:
        assert server.ready.models == {"words": (1,)}


def test_a_log_that_cannot_be_written_holds_no_server_up(tmp_path):
    def full(_: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    more_than_a_pipe_holds = "for _ in range(9999): print('x' * 99)"
    process = Process([sys.executable, "-c", more_than_a_pipe_holds], os.environ, tmp_path, full)
    try:
        with pytest.raises(ServerLost, match="ended with code 0"):
            eventually(process.check)
    finally:
        process.kill()
