"""Who is compared: each contestant is started, asked and stopped, one at a time."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import psutil
from cases import Case
from engines import FastTextClassifier, LinearClassifier, OpenVinoClassifier
from targets import HttpTarget, PythonTarget

from pipeline.bench.serving import OnnxTarget, Target, TritonTarget
from pipeline.errors import ServerError
from pipeline.serve.running import running

HERE = Path(__file__).parent
CORES = len(os.sched_getaffinity(0))
START_SECONDS = 120
STOP_SECONDS = 15
_QUIET = {
    "BENTOML_DO_NOT_TRACK": "True",
    "DO_NOT_TRACK": "1",
    "OTEL_SDK_DISABLED": "true",
    "PYTHONUNBUFFERED": "1",
}  # nobody is told that this was run


@dataclass(frozen=True)
class Setup:
    """How a server uses the cores."""

    workers: int
    threads: int

    def __str__(self) -> str:
        return f"{self.workers} × {self.threads} thread{'s' if self.threads > 1 else ''}"


SETUPS = tuple(dict.fromkeys((Setup(CORES, 1), Setup(1, CORES))))
ALL = ("SingleStream", "MultiStream", "Server", "Offline")
FASTAPI, CLIENT = "FastAPI + PyTorch", "HTTP client"
ALONE = ("SingleStream", "MultiStream", "Offline")
LONE = ("SingleStream",)


@dataclass(frozen=True)
class Contestant:
    """One way to classify.

    Attributes:
        name: in tables.
        start: gives the target for as long as the ``with`` block lasts.
        packages: whose versions are written down.
        scenarios: that it is asked in.
        setups: of which the faster is taken; empty where there is no choice.
        is_same_model: whether it has the run's weights, so that its answers can be compared.
    """

    name: str
    start: Callable[[Case, Setup | None], AbstractContextManager[Target]]
    packages: tuple[str, ...]
    scenarios: tuple[str, ...] = ALL
    setups: tuple[Setup, ...] = ()
    is_same_model: bool = True


def contestants(case: Case) -> list[Contestant]:
    """Return everybody."""
    torch, triton = ("torch", "onnxruntime-gpu"), ("nvidia-pytriton", "onnxruntime-gpu")
    bento = ("-m", "bentoml", "serve", "with_bentoml:Classifier", "--host", "127.0.0.1", "--port", "{port}")
    uvicorn = ("-m", "uvicorn", "with_fastapi:app", "--port", "{port}", "--workers", "{workers}")
    fastapi = (*uvicorn, "--log-level", "warning", "--no-access-log")
    null = ("null.py", "{port}")
    litserve = ("with_litserve.py", "{port}", "{workers}")
    variants = list(dict.fromkeys([case.variant, "fp32"]))
    return [
        *(Contestant(ours(one), partial(_embedded, one, "grpc"), triton) for one in variants),
        *(Contestant(over_http(one), partial(_embedded, one, "http"), triton, LONE) for one in variants),
        Contestant(FASTAPI, partial(_served, FASTAPI, fastapi), ("fastapi", "uvicorn", *torch), setups=SETUPS),
        Contestant("LitServe", partial(_served, "LitServe", litserve), ("litserve", *torch), setups=SETUPS),
        Contestant("BentoML", partial(_served, "BentoML", bento), ("bentoml", *torch), setups=SETUPS),
        *(Contestant(in_process(one), partial(_onnx, one), ("onnxruntime-gpu",), ALONE) for one in variants),
        Contestant("OpenVINO in process", _openvino, ("openvino",), ALONE),
        Contestant("fastText", _fasttext, ("fasttext-wheel",), ALONE, is_same_model=False),
        Contestant("TF-IDF + LR", _linear, ("scikit-learn",), ALONE, is_same_model=False),
        Contestant(CLIENT, partial(_served, CLIENT, null), ("uvloop",), ("Ceiling",), is_same_model=False),
    ]


def ours(variant: str) -> str:
    """Return the name of ours."""
    return f"pipeline serve, {variant}"


def over_http(variant: str) -> str:
    """Return the name of ours where it is asked as the other servers are."""
    return f"pipeline serve over HTTP, {variant}"


def in_process(variant: str) -> str:
    """Return the name of ONNX Runtime in process."""
    return f"ONNX Runtime in process, {variant}"


@contextmanager
def _embedded(variant: str, protocol: str, case: Case, _: Setup | None) -> Iterator[Target]:
    model = f"{case.name}-{variant}"
    with running(case.folder / "repository", models=(model,)) as server:
        if protocol == "http":
            yield TritonTarget(server.http_url, model, "http", name=over_http(variant))
        else:
            yield TritonTarget(server.grpc_url, model, name=ours(variant))


def _onnx(variant: str, case: Case, _: Setup | None) -> AbstractContextManager[Target]:
    return nullcontext(OnnxTarget(case.model(variant), name=in_process(variant)))


def _openvino(case: Case, _: Setup | None) -> AbstractContextManager[Target]:
    return nullcontext(PythonTarget("OpenVINO in process", partial(OpenVinoClassifier, case.run, case.classes)))


def _fasttext(case: Case, _: Setup | None) -> AbstractContextManager[Target]:
    return nullcontext(PythonTarget("fastText", partial(FastTextClassifier, case.folder / "fasttext.bin")))


def _linear(case: Case, _: Setup | None) -> AbstractContextManager[Target]:
    return nullcontext(PythonTarget("TF-IDF + LR", partial(LinearClassifier, case.folder / "linear.npz")))


@contextmanager
def _served(name: str, command: tuple[str, ...], case: Case, setup: Setup | None) -> Iterator[Target]:
    """Run a Python command, in which ``{port}`` and ``{workers}`` are filled in."""
    workers, threads = (setup.workers, setup.threads) if setup else (0, 1)
    with tempfile.TemporaryDirectory(prefix="performance-") as folder:
        port = _free_port()
        environment = _QUIET | {
            "BENTOML_HOME": folder,
            "OMP_NUM_THREADS": str(threads),
            "PERFORMANCE_LOADED": folder,
            "PERFORMANCE_RUN": str(case.run),
            "PERFORMANCE_THREADS": str(threads),
            "PERFORMANCE_WORKERS": str(workers),
            "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE), os.environ.get("PYTHONPATH", "")]),
        }
        arguments = [sys.executable, *(part.format(port=port, workers=workers) for part in command)]
        with _process(arguments, environment, Path(folder) / "log") as process:
            _wait(process, port, Path(folder), workers)
            yield HttpTarget(name, port)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def _process(command: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in a session of its own, and end it and all that it started afterwards."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=HERE, env=os.environ | environment, stdout=file, stderr=file, start_new_session=True
        )
    try:
        yield process
    finally:
        started: list[Any] = [process]
        with suppress(psutil.NoSuchProcess):  # BentoML's workers are in sessions of their own
            started += psutil.Process(process.pid).children(recursive=True)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        for one in started:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, folder: Path, workers: int) -> None:
    """Wait until every worker has loaded the model and a text is answered.

    Raises:
        ServerError: the server ended, or took too long.
    """
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerError(f"ended with exit code {process.returncode}: {_last_line(folder / 'log')}")
        loaded = sum(path.name.isdecimal() for path in folder.iterdir())
        if loaded >= workers and _is_answering(port):
            return
        time.sleep(0.1)
    raise ServerError(f"not ready after {START_SECONDS} s: {_last_line(folder / 'log')}")


def _is_answering(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", "/classify", b'{"texts": ["a text"]}', {"Content-Type": "application/json"})
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it wrote nothing"
