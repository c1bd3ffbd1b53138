"""Check the variants that an export kept: their bytes, their graph, and their gate once more, against PyTorch."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx

from pipeline import gate
from pipeline.dataset import Dataset
from pipeline.encoding import encode
from pipeline.errors import PipelineError
from pipeline.files import read_json, sha256_of
from pipeline.gate import PRECISIONS, RECURRENT, Precision
from pipeline.reference import Reference
from pipeline.run_directory import RunDirectory
from pipeline.runtime import first_line, open_session
from pipeline.verify import cases
from pipeline.verify.engines import OnnxEngine, TorchEngine
from pipeline.verify.parity_report import Check

_POOLING = {"Transpose", "Reshape", "Where", "ReduceMax", "ReduceSum"}
_ADDED = {*RECURRENT, *_POOLING, "DynamicQuantizeLSTM", "Cast", "Clip", "Pad", "Slice", "Add", "Unsqueeze"}


def variant_files(run: RunDirectory) -> list[str]:
    """Return the files that the checks of variants look at."""
    files = [PRECISIONS[record["name"]].file for record in gate.kept(run)]
    return [gate.RECORD, *files] if files else []


def check_variants(run: RunDirectory, reference: Reference, dataset: Dataset) -> Iterator[Check]:
    """Yield the checks of every variant that was kept."""
    for record in gate.kept(run):
        precision = PRECISIONS[record["name"]]
        yield _check_hash(run, precision, record)
        graph = _check_graph(run, precision)
        yield graph
        if not graph.passed:
            continue
        name = precision.name
        try:
            engine = OnnxEngine(open_session(run / precision.file, precision.provider))
            yield from _check_gate(name, engine, precision, reference, dataset)
            yield _check_hostile(name, engine, precision, reference, dataset)
        except PipelineError as error:
            yield Check(name, "answers", False, f"the engine failed: {error}")


def variant_goldens(run: RunDirectory, dataset: Dataset, count: int) -> dict[str, tuple[dict[str, Any], ...]]:
    """Return, for each kept variant, some rows with its own answers; none for one that does not answer."""
    goldens = {}
    for record in gate.kept(run):
        precision = PRECISIONS[record["name"]]
        rows = cases.sample(dataset, dataset.interface, count)
        try:
            answers = OnnxEngine(open_session(run / precision.file, precision.provider)).answer(rows)
        except PipelineError:
            continue
        goldens[precision.name] = tuple(
            {
                dataset.interface: row if isinstance(row, str) else row.tolist(),
                "probabilities": probabilities.tolist(),
                "label": label,
            }
            for row, probabilities, label in zip(rows, answers.probabilities, answers.labels, strict=True)
        )
    return goldens


def _check_hash(run: RunDirectory, precision: Precision, record: dict[str, Any]) -> Check:
    """Check that a variant is the one that was exported, and was made of this model."""
    problems = []
    if sha256_of(run.require(precision.file)) != record["sha256"]:
        problems.append(f"{precision.file} changed since export")
    if sha256_of(run.require("model.onnx")) != read_json(run / gate.RECORD)["model_sha256"]:
        problems.append(f"{precision.file} was made of another model.onnx")
    detail = f"{precision.file} is the file that was exported"
    if problems:
        detail = f"{'; '.join(problems)}. Run `pipeline export {run.path} --variants {precision.name}` again"
    return Check(f"{precision.name} files", "hashes", not problems, detail, {"changed": problems})


def _check_graph(run: RunDirectory, precision: Precision) -> Check:
    """Check that a variant differs from the exported model in its recurrent layers alone, and how they are pooled."""
    try:
        onnx.checker.check_model(run / precision.file, full_check=True)
        model, variant = (onnx.load(run / name, load_external_data=False) for name in ("model.onnx", precision.file))
        problems = list(_differences(model, variant))
    except Exception as error:  # noqa: BLE001 - a damaged file fails in protobuf, in the checker or in the file system
        problems = [first_line(error)]
    detail = "; ".join(problems) or "the exported one but for its recurrent layers and how they are pooled"
    return Check(f"{precision.name} files", "graph", not problems, detail, {"problems": problems})


def _differences(model: onnx.ModelProto, variant: onnx.ModelProto) -> Iterator[str]:
    for what, ours, theirs in (
        ("inputs", model.graph.input, variant.graph.input),
        ("outputs", model.graph.output, variant.graph.output),
        ("operator sets", model.opset_import, variant.opset_import),
    ):
        if list(ours) != list(theirs):
            yield f"other {what} than model.onnx"
    if model.ir_version != variant.ir_version:
        yield f"IR {variant.ir_version}, model.onnx has {model.ir_version}"
    ours, theirs = (
        Counter(node.SerializeToString(deterministic=True) for node in proto.graph.node) for proto in (model, variant)
    )
    lost, added = _nodes(ours - theirs), _nodes(theirs - ours)
    layers = [node for node in lost if node.op_type in RECURRENT]
    after = _computed_from(model, layers)
    replaced = [node for node in lost if node.op_type in _POOLING and after & set(node.input)]
    wrong = [node for node in lost if node not in layers + replaced]
    wrong += [node for node in added if node.op_type not in _ADDED]
    if wrong:
        yield f"other nodes than model.onnx: {', '.join(node.name or node.op_type for node in wrong)}"
    weights = {tensor.name: tensor for tensor in variant.graph.initializer}
    lowered = {name for node in layers for name in node.input}
    changed = [t.name for t in model.graph.initializer if t.name not in lowered and weights.get(t.name) != t]
    if changed:
        yield f"other weights than model.onnx: {', '.join(changed)}"
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in weights.values()):
        yield "weights lie in another file"


def _computed_from(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> set[str]:
    """Return the names of all that some nodes give and of all that is computed from it."""
    names = {name for node in nodes for name in node.output}
    for node in model.graph.node:  # in the order they run in
        if names & set(node.input):
            names |= set(node.output)
    return names


def _nodes(serialised: Counter[bytes]) -> list[onnx.NodeProto]:
    return [onnx.NodeProto.FromString(content) for content in serialised]


def _check_gate(
    name: str, engine: OnnxEngine, precision: Precision, reference: Reference, dataset: Dataset
) -> Iterator[Check]:
    """Ask every question of the gate again, of the whole validation split, with PyTorch as the reference."""
    split = dataset.split("validation")
    rows = gate.rows_of(split, dataset.interface)
    given = gate.arranged(lambda some: engine.answer(some).probabilities, rows, reference.recipe.publish.max_batch_size)
    expected = reference.probabilities(encode(split, reference.tokenizer))
    for verdict in gate.verdicts(gate.figures(expected, given, split.labels), precision):
        measured = {"value": verdict.value, "allowed": verdict.allowed}
        yield Check(name, verdict.name, verdict.passed, verdict.detail, measured)


def _check_hostile(
    name: str, engine: OnnxEngine, precision: Precision, reference: Reference, dataset: Dataset
) -> Check:
    """Check that hostile inputs are answered with finite numbers and PyTorch's validity, and move no neighbour."""
    first, last = (cases.sample(dataset, dataset.interface, 2) * 2)[:2]
    alone = np.concatenate([engine.answer([row]).probabilities for row in (first, last)])
    is_text = dataset.interface == "text"
    batches = cases.hostile_texts() if is_text else cases.hostile_frames(reference.signature.feature_size or 0)
    torch, problems, moves, count = TorchEngine(reference), [], [0.0], 0
    for batch in batches:
        given = engine.answer([first, *batch.rows, last])
        inner = given.rows(np.arange(1, 1 + len(batch.rows)))
        if not np.isfinite(inner.probabilities).all() or (inner.valid != torch.answer(batch.rows).valid).any():
            problems.append(batch.name)
        moves.append(float(np.abs(given.probabilities[[0, -1]] - alone).max()))
        count += len(batch.rows)
    moved = float(np.max(moves))  # NaN if there is one, which no limit allows
    detail = f"{count} answered, neighbours moved by {moved:.1e}; allowed {precision.company:.0e}"
    if problems:
        detail += f"; not finite, or otherwise valid than PyTorch says: {', '.join(problems)}"
    passed = not problems and moved <= precision.company
    return Check(name, "hostile inputs", passed, detail, {"value": moved, "allowed": precision.company})
