"""What was checked, as a person calls it, and the options of `pipeline verify` that check it again."""

import shlex

from pipeline.report.records import Record

_TITLES = {
    "files": "The files",
    "CPUExecutionProvider": "ONNX Runtime, CPU",
    "CUDAExecutionProvider": "ONNX Runtime, CUDA",
}
_PROVIDERS = {"CPUExecutionProvider": "cpu", "CUDAExecutionProvider": "cuda"}
_SCHEME = "grpc://"


def all_checks(parity: Record) -> list[Record]:
    """Return the checks of the files and of an endpoint."""
    return [*parity["checks"], *parity["endpoint_checks"]]


def compared(parity: Record) -> list[Record]:
    """Return the checks that compared answers."""
    return [check for check in all_checks(parity) if "max_absolute" in check["measured"]]


def title(engine: str) -> str:
    """Return an engine's name for a person."""
    return _TITLES.get(engine, f"Triton at {engine.removeprefix(_SCHEME)}" if engine.startswith(_SCHEME) else engine)


def verify_options(engines: list[str]) -> str:
    """Return the options that make `pipeline verify` ask these engines again, with a space before each."""
    providers = [_PROVIDERS[engine] for engine in engines if engine in _PROVIDERS]
    chosen = "".join(f" --provider {name}" for name in providers) if providers not in ([], ["cpu"]) else ""
    endpoints = [engine.removeprefix(_SCHEME) for engine in engines if engine.startswith(_SCHEME)]
    return chosen + "".join(f" --endpoint {shlex.quote(endpoint)}" for endpoint in endpoints)
