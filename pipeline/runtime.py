"""ONNX Runtime sessions that run where they were told to, or not at all."""

import contextlib
import ctypes
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from pipeline.errors import PipelineError

VERSION: str = ort.__version__
CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
OPTIMISATIONS = {
    "none": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
_ERRORS_ONLY = 3


def open_session(
    model: Path | bytes,
    provider: str = CPU,
    threads: int = 0,
    optimisation: str = "all",
    *,
    tf32: bool = False,
    profile: Path | None = None,
) -> ort.InferenceSession:
    """Open a model on one execution provider.

    Args:
        model: a file, or a serialised model.
        provider: the execution provider that must run it; nodes it has no kernel for (strings) run on the CPU.
        threads: threads inside an operator; 0 for one for each core.
        optimisation: of the graph, when it is loaded; one of `OPTIMISATIONS`.
        tf32: let CUDA round the factors of its products to 10 bits, which PyTorch's float32 does not.
        profile: where the profile is to be written, a time and a suffix being added; None for no profile.

    Raises:
        PipelineError: the model does not load, or ONNX Runtime fell back to another provider.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = OPTIMISATIONS[optimisation]
    options.log_severity_level = _ERRORS_ONLY
    # Its threads would otherwise turn idly after each run, on the cores that PyTorch needs next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    where = model if isinstance(model, Path) else "the model"
    if provider not in ort.get_available_providers():
        raise PipelineError(f"{where}: this ONNX Runtime has no {provider}; it has {ort.get_available_providers()}.")
    providers: list[Any] = [CPU]
    if provider == CUDA:
        with contextlib.redirect_stdout(sys.stderr):  # what it cannot find it prints
            ort.preload_dlls()  # CUDA's libraries may lie in packages beside it
        providers.insert(0, (CUDA, {"use_tf32": str(int(tf32))}))
    try:
        session = ort.InferenceSession(str(model) if isinstance(model, Path) else model, options, providers=providers)
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise PipelineError(f"{where}: ONNX Runtime cannot load it: {first_line(error)}") from error
    if session.get_providers()[0] != provider:
        raise PipelineError(f"{where}: asked for {provider}, ONNX Runtime fell back to {session.get_providers()}.")
    return session


def has_cuda_driver() -> bool:
    """Return whether a GPU can be there at all; to try without one makes ONNX Runtime print much."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def first_line(error: Exception) -> str:
    """Return the first line of an error's text."""
    lines: list[Any] = str(error).strip().splitlines()
    return str(lines[0]) if lines else type(error).__name__


def resident_bytes(model: Path, feeds: Sequence[dict[str, np.ndarray]], provider: str = CPU) -> list[int]:
    """Return what this process took before it opened a model on one thread, and its peak after, and after each call.

    Raises:
        PipelineError: this is no Linux, or the model does not load.
    """
    found = [_status("VmRSS")]
    session = open_session(model, provider, threads=1)
    for feed in ({}, *feeds):
        if feed:
            session.run(None, feed)
        found.append(_status("VmHWM"))
    return found


def _status(name: str) -> int:
    """Return a figure of ``/proc/self/status``, in bytes."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except FileNotFoundError as error:
        raise PipelineError("/proc/self/status: not there: memory can be measured on Linux only.") from error
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024
