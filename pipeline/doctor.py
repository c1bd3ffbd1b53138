"""Look at the machine: what the pipeline needs, what is there, and what to do about the rest."""

import ctypes
import importlib.metadata
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ServerError
from pipeline.triton import TRITON_RELEASE, TRITON_VERSION, check_platform, find_libpython, find_wheel

DISTRIBUTION = "pipeline"
RUNTIMES = ("onnxruntime-gpu", "onnxruntime")
PORTS = {8000: "HTTP", 8001: "gRPC", 8002: "metrics"}
MIN_SHARED_MEMORY_MIB = 64
GIB = 2**30


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what it is.
        is_ok: it is there and works.
        is_required: the pipeline cannot do without it on this machine.
        found: what was found, in a few words.
        advice: what to do; empty when all is well.
    """

    name: str
    is_ok: bool
    is_required: bool
    found: str
    advice: str = ""


def examine(folder: Path | None = None) -> Iterator[Finding]:
    """Yield what there is, thing by thing.

    Args:
        folder: where runs and data would lie; the working directory by default.
    """
    yield _python()
    yield _machine(folder or Path.cwd())
    yield from _packages()
    yield _onnxruntime()
    yield _cuda()
    yield from _serving()
    yield from (_port(port, service) for port, service in PORTS.items())
    yield _program("docker", ("docker", "version", "--format", "{{.Server.Version}}"))
    yield _compose()


def _python() -> Finding:
    """Say which one this is: nothing here starts in one that is too old; `_serving` says which ones serve."""
    found = f"{platform.python_implementation()} {platform.python_version()} at {sys.executable}"
    return Finding("python", True, True, found)


def _machine(folder: Path) -> Finding:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    free = shutil.disk_usage(folder).free / GIB
    system = f"{platform.system()} {platform.machine()}"
    found = f"{system}, {os.cpu_count()} processors, {memory:.0f} GiB memory, {free:.0f} GiB free"
    advice = "" if free >= 1 else f"Make room in {folder}: less than 1 GiB is free."
    return Finding("machine", not advice, False, found, advice)


def _packages() -> Iterator[Finding]:
    """Yield the packages that this one asks for, whatever the extras; the runtimes have a finding of their own."""
    try:
        requirements = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        advice = "It runs from a bare folder, and what it needs is not known. `pip install` it to have that looked at."
        yield Finding(DISTRIBUTION, False, False, "not installed", advice)
        return
    wanted = [requirement for requirement in requirements if "extra ==" not in requirement]
    names = sorted(re.split(r"[^\w.-]", requirement, maxsplit=1)[0] for requirement in wanted)
    yield from (_package(name) for name in names if name not in RUNTIMES)


def _package(name: str) -> Finding:
    version = _version(name)
    advice = "" if version else "`pip install pipeline` brings it: install again in this environment."
    return Finding(name, version is not None, True, version or "not installed", advice)


def _onnxruntime() -> Finding:
    installed = [f"{name} {version}" for name in RUNTIMES if (version := _version(name))]
    name, found = "onnxruntime", " and ".join(installed) or "not installed"
    if len(installed) > 1:
        advice = "They overwrite each other's files: uninstall both, then install one again."
        return Finding(name, False, True, found, advice)
    try:
        import onnxruntime

        providers = onnxruntime.get_available_providers()
    except (ImportError, OSError, AttributeError) as error:
        return Finding(name, False, True, f"{found}; cannot be imported: {error}", f"Install {RUNTIMES[0]} again.")
    built = ", ".join(provider.removesuffix("ExecutionProvider") for provider in providers)
    return Finding(name, True, True, f"{found}, built with {built}")


def _cuda() -> Finding:
    """Ask the driver itself: ONNX Runtime lists CUDA wherever it was built with it."""
    advice = "Nothing to do: the pipeline works without a GPU."
    count = ctypes.c_int()
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        is_ok = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
    except (OSError, AttributeError):
        return Finding("cuda", False, False, "no driver", advice)
    return Finding("cuda", is_ok, False, f"{count.value} device(s)", "" if is_ok else advice)


def _serving() -> Iterator[Finding]:
    """Yield what `pipeline serve` needs: all of it is required once its wheel is installed."""
    name = "nvidia-pytriton"
    try:
        check_platform()
        find_wheel()
    except ServerError as error:
        yield Finding(name, False, False, "not usable here", str(error))
        return
    yield Finding(name, True, False, f"{_version(name)}, Triton {TRITON_VERSION} ({TRITON_RELEASE})")
    try:
        yield Finding("libpython", True, True, str(find_libpython()))
    except ServerError as error:
        yield Finding("libpython", False, True, "missing", str(error))
    yield _shared_memory(Path("/dev/shm"))  # noqa: S108  the only place where POSIX shared memory lies
    yield _temporary_folder(Path(tempfile.gettempdir()))


def _shared_memory(folder: Path) -> Finding:
    advice = f"Triton needs it. In a container ask for it: --shm-size={4 * MIN_SHARED_MEMORY_MIB}m."
    try:
        with tempfile.NamedTemporaryFile(dir=folder):
            free = shutil.disk_usage(folder).free // 2**20
    except OSError as error:
        return Finding("shared memory", False, True, f"{folder}: {error.strerror}", advice)
    is_ok = free >= MIN_SHARED_MEMORY_MIB - 1
    return Finding("shared memory", is_ok, True, f"{free} MiB free in {folder}", "" if is_ok else advice)


def _temporary_folder(folder: Path) -> Finding:
    is_ok = not os.statvfs(folder).f_flag & os.ST_NOEXEC
    advice = "" if is_ok else "Mounted noexec, and Triton's backend runs from there: set TMPDIR to another folder."
    return Finding("temporary folder", is_ok, True, str(folder), advice)


def _port(port: int, service: str) -> Finding:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            advice = (
                f"Stop what uses it, or give `pipeline serve` another with --{service.lower()}-port (0: any free one)."
            )
            return Finding(f"port {port}", False, False, error.strerror or str(error), advice)
    return Finding(f"port {port}", True, False, f"free, for {service}")


def _program(name: str, command: tuple[str, ...]) -> Finding:
    """Run a program that prints its version; only `deploy/` needs these."""
    if shutil.which(command[0]) is None:
        return Finding(name, False, False, "not found", "Only deploy/ needs it; `pipeline serve` does not.")
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(name, False, False, f"does not answer: {error}", "Only deploy/ needs it. Is its engine running?")
    text = (answer.stdout.strip() or answer.stderr.strip() or "no answer").splitlines()[0]
    advice = "" if answer.returncode == 0 else "Only deploy/ needs it. Is its engine running, and may you use it?"
    return Finding(name, answer.returncode == 0, False, text, advice)


def _compose() -> Finding:
    plugin = _program("docker compose", ("docker", "compose", "version", "--short"))
    return plugin if plugin.is_ok else _program("docker compose", ("docker-compose", "version", "--short"))


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
