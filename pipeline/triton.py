"""The Triton inside the ``nvidia-pytriton`` wheel: where its files lie, and what a machine must have to run it.

The wheel's package is never imported: only its files are used. They are Triton 2.51 (release 24.10), built for Linux
x86-64 and glibc, with one stub of the Python backend for each version of Python. `pipeline serve` takes fewer versions:
the wheel's package holds NumPy below 2, which is built for none after 3.12.
"""

import importlib.util
import platform
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ServerError

TRITON_VERSION = "2.51"
TRITON_RELEASE = "24.10"
PYTHONS = ("3.11", "3.12")
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True)
class Triton:
    """Where the parts of the wheel's Triton lie.

    Attributes:
        server: the ``tritonserver`` program.
        backend: the folder of the Python backend's library and its module.
        stub: the program that runs one model instance in this version of Python.
        libraries: the folder of the shared libraries that came with the wheel.
        libpython: the shared library of this Python, which the stub loads.
    """

    server: Path
    backend: Path
    stub: Path
    libraries: Path
    libpython: Path


def find_triton() -> Triton:
    """Find the wheel's Triton and the shared library of this Python.

    Raises:
        ServerError: this machine cannot run it, or a part is not installed; the message says what to do.
    """
    check_platform()
    site = find_wheel()
    root = site / "pytriton" / "tritonserver"
    stub = root / "python_backend_stubs" / PYTHON / "triton_python_backend_stub"
    if not stub.is_file():
        known = ", ".join(sorted(path.name for path in stub.parent.parent.glob("3.*")))
        raise ServerError(
            f"Python {PYTHON}: the wheel's Triton has no stub for it, only for {known}. Use one of these."
        )
    return Triton(
        server=root / "bin" / "tritonserver",
        backend=root / "backends" / "python",
        stub=stub,
        libraries=site / "nvidia_pytriton.libs",
        libpython=find_libpython(),
    )


def check_platform() -> None:
    """Refuse a machine on which the wheel's Triton does not run.

    Raises:
        ServerError: this is not Linux on x86-64, or not a Python that it runs in.
    """
    system, machine = platform.system(), platform.machine()
    if (system, machine) != ("Linux", "x86_64"):
        raise ServerError(
            f"{system} {machine}: the wheel's Triton runs on Linux x86-64 only. "
            "Serve the same model_repository with the official container: see deploy/."
        )
    if PYTHON not in PYTHONS:
        raise ServerError(
            f"Python {PYTHON}: the wheel's Triton runs in Python {' and '.join(PYTHONS)} only. "
            "Serve from an environment of one of these; all other commands work in this one."
        )


def find_wheel() -> Path:
    """Return the folder (``site-packages``) that the wheel was unpacked into.

    Raises:
        ServerError: it is not installed, or a part of it is missing.
    """
    spec = importlib.util.find_spec("pytriton")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(folder) / "tritonserver" / "bin" / "tritonserver").is_file():
            return Path(folder).parent
    raise ServerError(
        "nvidia-pytriton is not installed: it carries the Triton server. `pip install 'pipeline[serve]'`."
    )


def find_libpython() -> Path:
    """Return the shared library of the running Python's version.

    Raises:
        ServerError: there is none; the message names the package that has it.
    """
    name = f"libpython{PYTHON}.so.1.0"
    multiarch = sysconfig.get_config_var("MULTIARCH") or "x86_64-linux-gnu"
    roots = ("/usr/lib", "/usr/local/lib", "/usr/lib64")
    folders = [
        sysconfig.get_config_var("LIBDIR"),
        f"{sys.base_prefix}/lib",
        *(f"{root}/{multiarch}" for root in roots),
        *roots,
    ]
    for folder in folders:
        if folder and (Path(folder) / name).is_file():
            return (Path(folder) / name).resolve()
    raise ServerError(
        f"{name} is missing: this Python was built without its shared library, and Triton's Python backend needs it. "
        f"On Debian or Ubuntu: `apt-get install libpython{PYTHON}`."
    )
