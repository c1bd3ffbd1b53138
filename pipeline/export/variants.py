"""Variants of an exported model: lower, measure, and keep what passes the gate."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

from pipeline import gate
from pipeline.dataset import dataset_of
from pipeline.errors import CheckFailed, PipelineError, RunError, UsageError
from pipeline.export.judge import FP32, Judge
from pipeline.files import sha256_of, write_bytes, write_json
from pipeline.gate import PRECISIONS, Precision
from pipeline.run_directory import RunDirectory
from pipeline.runtime import first_line
from pipeline.signature import Signature

AUTO = "auto"


def export_variants(run: RunDirectory, names: Sequence[str] = (AUTO,), data: Path | None = None) -> dict[str, Any]:
    """Write those variants of an exported model that pass their gate, and ``variants.json``, which is returned.

    Each is measured on the whole validation split against the exported model. A variant that falls leaves no file but
    its figures and the reasons; `chosen` is the fastest of those that were kept and of the exported model.

    Args:
        run: an exported run.
        names: precisions, or ``auto`` for all.
        data: the data set, where it is no longer in the place it was trained from.

    Raises:
        RunError: the run was not exported, or its model was changed since.
        DataError: the data set is missing, damaged, or another one.
        UsageError: a precision that is not known.
    """
    wanted = _precisions(names)
    exported = sha256_of(run.require("model.onnx"))
    signature = Signature.load(run.require("signature.json"))
    if signature.hashes.get("model.onnx") != exported:
        raise RunError(f"{run / 'model.onnx'}: changed since it was exported. Run `pipeline export {run.path}` again.")
    remove_variants(run)
    judge = Judge.of(run, signature.interface, dataset_of(run, data))
    records = [_made(run, precision, judge) for precision in wanted]
    content = {
        "format": 1,
        "model_sha256": exported,
        "rows": len(judge.rows),
        "batch_size": judge.batch_size,
        "fp32": {"bytes": (run / "model.onnx").stat().st_size, **judge.own_figures()},
        "variants": records,
        "chosen": _chosen(records),
    }
    write_json(run / gate.RECORD, content)
    return content


def remove_variants(run: RunDirectory) -> None:
    """Remove every variant and the record of them; that first, for it names them."""
    for name in (gate.RECORD, *(precision.file for precision in PRECISIONS.values())):
        (run / name).unlink(missing_ok=True)


def require_kept(variants: dict[str, Any], names: Sequence[str]) -> None:
    """Raise if a variant that was asked for by its name fell.

    Raises:
        CheckFailed: it did.
    """
    fallen = [record for record in variants["variants"] if record["name"] in names and record["outcome"] != "kept"]
    if fallen:
        reasons = "; ".join(f"{record['name']}: {record['reasons'][0]}" for record in fallen)
        raise CheckFailed(f"not kept: {reasons}. model.onnx is as good as before.")


def _made(run: RunDirectory, precision: Precision, judge: Judge) -> dict[str, Any]:
    """Make one variant, keep or drop it, and return its record."""
    record: dict[str, Any] = {"name": precision.name, "file": precision.file, "provider": precision.provider}
    try:
        content = judge.build(precision)
        figures, reasons = judge.measured(content, precision)
        speeds = judge.speeds(content, precision)
    except (PipelineError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return record | _fallen([first_line(error)])
    record |= {"bytes": len(content), "figures": figures, "speeds": speeds}
    if reasons:
        return record | _fallen(reasons, judge.repairing(precision))
    write_bytes(run / precision.file, content)
    return record | {"outcome": "kept", "sha256": sha256_of(run / precision.file), "reasons": [], "repaired_by": []}


def _fallen(reasons: list[str], repaired_by: Sequence[str] = ()) -> dict[str, Any]:
    return {"outcome": "fell", "reasons": reasons, "repaired_by": list(repaired_by)}


def _precisions(names: Sequence[str]) -> list[Precision]:
    unknown = [name for name in names if name != AUTO and name not in PRECISIONS]
    if unknown:
        raise UsageError(f"{unknown[0]}: no such variant; there are {', '.join((AUTO, *PRECISIONS))}.")
    return [precision for name, precision in PRECISIONS.items() if AUTO in names or name in names]


def _chosen(records: Sequence[dict[str, Any]]) -> str:
    """Return the fastest: a kept variant that outruns the exported model, or that model."""
    rates = {FP32: 0.0}
    for record in records:
        if record["outcome"] != "kept":
            continue
        speed = record["speeds"][max(record["speeds"], key=int)]
        rates[FP32] = max(rates[FP32], speed["fp32_rows_per_second"])
        rates[record["name"]] = speed["rows_per_second"]
    return max(rates, key=lambda name: rates[name])
