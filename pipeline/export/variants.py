"""Variants of an exported model: lower, measure, and keep what passes the gate."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from pipeline import gate, recipe
from pipeline.dataset import Dataset
from pipeline.errors import CheckFailed, PipelineError, RunError, UsageError
from pipeline.export.lower import Range, lowered, recurrent_nodes
from pipeline.export.ranges import entering
from pipeline.files import sha256_of, write_bytes, write_json
from pipeline.gate import PRECISIONS, Answer, Arranged, Precision
from pipeline.reference import dataset_of
from pipeline.run_directory import RunDirectory
from pipeline.runtime import CPU, CUDA, first_line, has_cuda_driver, open_session
from pipeline.signature import Interface, Signature

AUTO = "auto"
FP32 = "fp32"
RANGE_ROWS = 2048

Build = Callable[[Sequence[str]], bytes]
"""Nodes that keep their precision, to the variant."""


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
    judge = _Judge.of(run, signature.interface, dataset_of(run, data))
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


@dataclass(frozen=True)
class _Judge:
    """What variants are measured with.

    Attributes:
        model: as exported, in float32.
        interface: of the model.
        rows: of the validation split.
        labels: theirs.
        batch_size: the largest that Triton will make.
        expected: (N, C) probabilities of the exported model.
        ranges: by the node's name, what enters each recurrent layer.
    """

    model: onnx.ModelProto
    interface: Interface
    rows: list[Any]
    labels: np.ndarray
    batch_size: int
    expected: Arranged
    ranges: dict[str, Range]

    @classmethod
    def of(cls, run: RunDirectory, interface: Interface, dataset: Dataset) -> "_Judge":
        model = onnx.load(run / "model.onnx")
        split, train = dataset.split("validation"), dataset.split("train")
        rows = gate.rows_of(split, interface)
        size = recipe.load(str(run / "recipe.toml")).publish.max_batch_size
        sample = train.take(np.sort(np.random.default_rng(0).permutation(len(train))[:RANGE_ROWS]))
        expected = gate.arranged(answers_of(model.SerializeToString(), interface), rows, size)
        ranges = entering(model, interface, gate.rows_of(sample, interface), size)
        return cls(model, interface, rows, split.labels, size, expected, ranges)

    def build(self, precision: Precision, kept: Sequence[str] = ()) -> bytes:
        """Return a variant, checked and serialised."""
        model = lowered(self.model, precision.name, self.ranges, kept)
        onnx.checker.check_model(model, full_check=True)
        content: bytes = model.SerializeToString(deterministic=True)
        return content

    def measured(self, content: bytes, precision: Precision) -> tuple[dict[str, Any], list[str]]:
        """Return a variant's figures and why it falls, if it does."""
        answer = answers_of(content, self.interface, precision.provider)
        figures = gate.figures(self.expected.by_length, gate.arranged(answer, self.rows, self.batch_size), self.labels)
        return figures, [f"{v.name}: {v.detail}" for v in gate.verdicts(figures, precision) if not v.passed]

    def speeds(self, content: bytes, precision: Precision) -> dict[str, Any]:
        """Return the rows a second of a variant, and their ratio to the exported model's on the same provider."""
        engines = {
            name: answers_of(model, self.interface, precision.provider)
            for name, model in ((FP32, self.model.SerializeToString()), (precision.name, content))
        }
        found = {}
        for size in sorted({1, self.batch_size}):
            rates = gate.speeds(engines, self.rows, size)
            ours, full = rates[precision.name], rates[FP32]
            found[str(size)] = {"rows_per_second": ours, "fp32_rows_per_second": full, "ratio": ours / full}
        return found

    def own_figures(self) -> dict[str, Any]:
        """Return the exported model's figures against itself: its accuracy, and how far company moves it."""
        return gate.figures(self.expected.by_length, self.expected, self.labels)


def answers_of(model: bytes, interface: Interface, provider: str = CPU) -> Answer:
    """Open a model and return what asks it.

    Raises:
        PipelineError: it does not load, or not on this provider.
    """
    if provider == CUDA and not has_cuda_driver():
        raise PipelineError(f"only {provider} has kernels for it, and this machine has no CUDA driver")
    session = open_session(model, provider)

    def answer(rows: Sequence[Any]) -> np.ndarray:
        probabilities: np.ndarray = session.run(["probabilities"], gate.feed(interface, rows))[0]
        return probabilities

    return answer


def repairing(nodes: Sequence[str], build: Build, passes: Callable[[bytes], bool]) -> list[str]:
    """Return the nodes that repair a fallen variant: with that one alone at full precision, it passes."""
    return [node for node in nodes if passes(build([node]))]


def _made(run: RunDirectory, precision: Precision, judge: _Judge) -> dict[str, Any]:
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
        nodes = [node.name for node in recurrent_nodes(judge.model)]
        repaired_by = repairing(
            nodes, lambda kept: judge.build(precision, kept), lambda some: not judge.measured(some, precision)[1]
        )
        return record | _fallen(reasons, repaired_by)
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
