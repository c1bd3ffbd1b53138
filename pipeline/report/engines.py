"""What was checked, as a person calls it, and the options of `pipeline verify` that check it again."""

import shlex

from pipeline.report.records import Record
from pipeline.run_directory import MADE_BY

_VARIANTS = [name.split(".")[1] for name in MADE_BY if name.startswith("model.") and name.count(".") == 2]
_TITLES = {
    "files": "The files",
    "cpu": "ONNX Runtime, CPU",
    "cuda": "ONNX Runtime, CUDA",
    **{name: f"Variant {name}" for name in _VARIANTS},
    **{f"{name} files": f"Variant {name}, its file" for name in _VARIANTS},
}
_ALWAYS = {"files", "cpu", *_VARIANTS, *(f"{name} files" for name in _VARIANTS)}  # checked without any option


def all_checks(parity: Record) -> list[Record]:
    """Return the checks of the files, of other engines and of endpoints."""
    return [check for key in ("checks", "engine_checks", "endpoint_checks") for check in parity[key]]


def compared(parity: Record) -> list[Record]:
    """Return the checks that compared answers."""
    return [check for check in all_checks(parity) if "max_absolute" in check["measured"]]


def title(engine: str) -> str:
    """Return an engine's name for a person."""
    if engine.startswith("grpc://"):
        return f"Triton at {engine.removeprefix('grpc://')}"
    return _TITLES.get(engine, engine)


def verify_options(engines: list[str]) -> str:
    """Return the options that make `pipeline verify` ask these engines again, with a space before each."""
    pairs = [engine.partition(" against ") for engine in engines if engine not in _ALWAYS]
    against = dict.fromkeys(reference for _, _, reference in pairs if reference)
    options = [f" --engine {shlex.quote(name)}" for name in dict.fromkeys(name for name, _, _ in pairs)]
    return "".join([*options, *(f" --against {shlex.quote(name)}" for name in against)])
