"""The private folder that one server runs from: a backend directory, an environment and a command line.

::

    FOLDER/
        backends/onnxruntime/               our Python-based backend, and the one module of ours that it imports
        backends/python/                    the wheel's Python backend and the stub of this Python
        libraries/                          libpython, alone: nothing else of its folder may shadow a library

The folder is also the server's working directory, so that no file of the user's can be imported by the stub.
"""

import importlib.util
import os
import secrets
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

from pipeline import cut
from pipeline.client.access import TOKEN_KEY
from pipeline.errors import ServerError
from pipeline.triton import Triton

_ENTRY = """# The stub's Python is isolated: it reads no PYTHONPATH, so the folders of its packages stand here.
import sys

sys.path[:0] = {folders!r}

from pipeline_backend import TritonPythonModel as TritonPythonModel
"""

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  the only place where POSIX shared memory lies
EXIT_TIMEOUT_SECONDS = 20

_GUARDED = ("inference", "metadata", "model-config", "model-repository", "statistics")
# Closed to everybody, by a secret that nobody is told: 24.10 has no option that switches them off. Nothing of ours asks
# for them, and through shared memory a caller could name the regions of Triton's own Python backend.
_CLOSED = ("shared-memory", "trace", "logging")


@dataclass(frozen=True)
class Options:
    """What to serve, and where.

    Attributes:
        repository: the model repository.
        address: the address of all three services.
        http_port: 0 picks a free one, as for the other two.
        grpc_port: where inference is asked for.
        metrics_port: where Prometheus reads.
        models: names of the models to serve; all of them when empty.
        timeout_seconds: how long loading and the first answers may take.
        verbose: let Triton log all it does.
        token: what callers must show for anything but health; empty to ask for none.
        max_memory_bytes: what Triton and its stubs may hold before the server is started anew; 0 for no limit.
    """

    repository: Path
    address: str = "127.0.0.1"
    http_port: int = 8000
    grpc_port: int = 8001
    metrics_port: int = 8002
    models: tuple[str, ...] = ()
    timeout_seconds: float = 60
    verbose: bool = False
    token: str = field(default="", repr=False)
    max_memory_bytes: int = 0


def lay_out(folder: Path, triton: Triton) -> None:
    """Build the backend directory inside a private folder.

    The library is copied: Triton refuses one that a link leads out of the backend directory.

    Raises:
        ServerError: the folder's file system lets no program run.
    """
    ours, python = folder / "backends" / "onnxruntime", folder / "backends" / "python"
    libraries = folder / "libraries"
    for new in (ours, python, libraries):
        new.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("backend.py"), ours / "pipeline_backend.py")
    (ours / "pipeline").mkdir()  # with all that it imports of this package
    (ours / "pipeline" / "__init__.py").touch()
    shutil.copy(cut.__file__, ours / "pipeline")
    (ours / "model.py").write_text(_ENTRY.format(folders=[str(ours), *_package_folders()]))
    shutil.copy(triton.backend / "libtriton_python.so", python)
    shutil.copy(triton.backend / "triton_python_backend_utils.py", python)
    shutil.copy(triton.stub, python)
    (libraries / triton.libpython.name).symlink_to(triton.libpython)
    if not os.access(python / triton.stub.name, os.X_OK):
        raise ServerError(f"{folder}: no program may run from there (mounted noexec). Set TMPDIR to another folder.")


def environment(folder: Path, triton: Triton) -> dict[str, str]:
    """Return the environment in which Triton finds its libraries, and its stub this Python's packages."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "AIP_"))},
        "LD_LIBRARY_PATH": os.pathsep.join([str(triton.libraries), str(folder / "libraries")]),
        # the stub's isolated Python takes the standard library from beside the first `python3` here
        "PATH": os.pathsep.join([str(Path(sys.base_prefix) / "bin"), os.environ.get("PATH", os.defpath)]),
    }


def command_line(folder: Path, triton: Triton, options: Options, models: tuple[str, ...], regions: str) -> list[str]:
    """Return the command that starts Triton.

    Args:
        folder: the private folder that `lay_out` filled.
        triton: the wheel's parts.
        options: addresses and ports, all of them real.
        models: what to load, by name: with ``*`` Triton would also try folders that are being written.
        regions: the prefix of the names of its shared memory.
    """
    return [
        str(triton.server),
        f"--model-repository={options.repository.resolve()}",
        f"--backend-directory={folder / 'backends'}",
        "--model-control-mode=explicit",
        *(f"--load-model={model}" for model in models),
        "--disable-auto-complete-config",
        "--exit-on-error=false",  # the reason is asked for, and told in one line
        "--strict-readiness=false",  # a version that fails to load leaves the old one, and the server, in service
        *(f"--{service}-address={options.address}" for service in ("http", "grpc", "metrics")),
        f"--http-port={options.http_port}",
        f"--grpc-port={options.grpc_port}",
        f"--metrics-port={options.metrics_port}",
        "--allow-gpu-metrics=false",  # needs DCGM, which the wheel lacks
        "--pinned-memory-pool-byte-size=0",  # the backend takes its tensors through shared memory
        f"--exit-timeout-secs={EXIT_TIMEOUT_SECONDS}",
        *_restrictions(options.token),
        f"--backend-config=python,shm-region-prefix-name={regions}",
        "--backend-config=python,stub-timeout-seconds=60",
        *(("--log-verbose=1",) if options.verbose else ("--log-info=false",)),
    ]


def _restrictions(token: str) -> list[str]:
    """Return what closes each part of the API to whoever does not show its secret; health stays open."""
    return [
        f"--{option}={','.join(parts)}:{TOKEN_KEY}={secret}"
        for parts, secret in ((_CLOSED, secrets.token_hex()), (_GUARDED, token))
        if secret
        for option in ("grpc-restricted-protocol", "http-restricted-api")
    ]


def _package_folders() -> list[str]:
    """Return where NumPy and ONNX Runtime are imported from."""
    return list(dict.fromkeys(map(_folder_of, ("numpy", "onnxruntime"))))


def _folder_of(package: str) -> str:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ServerError(f"{package} is not installed beside {sys.executable}. `pip install pipeline` brings it.")
    return str(Path(spec.origin).parents[1])
