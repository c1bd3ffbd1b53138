"""Check what is declared: the files' hashes, the graph against its signature, an endpoint against both."""

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from pipeline.client import Contract
from pipeline.errors import PipelineError
from pipeline.files import sha256_of
from pipeline.model.classifier import with_onnx_layers
from pipeline.reference import Reference
from pipeline.run_directory import RunDirectory
from pipeline.runtime import first_line
from pipeline.signature import DataType, Signature, Tensor
from pipeline.targets import Target
from pipeline.tokenizer import read_vocabulary
from pipeline.verify.model_file import form_problems, read_model
from pipeline.verify.parity_report import Check

_DTYPES: dict[int, DataType] = {
    TensorProto.STRING: "STRING",
    TensorProto.FLOAT: "FP32",
    TensorProto.INT64: "INT64",
    TensorProto.BOOL: "BOOL",
}


def check_hashes(run: RunDirectory, signature: Signature) -> Check:
    """Check that every file is the one that was exported, byte for byte."""
    found = {name: sha256_of(run.require(name)) for name in signature.hashes}
    changed = [name for name, digest in signature.hashes.items() if found[name] != digest]
    missing = sorted({"model.onnx", "weights.safetensors"} - set(signature.hashes))
    detail = f"{len(signature.hashes)} files are the bytes that were exported"
    if changed or missing:
        differing = [f"{name} (got {found[name][:8]}…, wanted {signature.hashes[name][:8]}…)" for name in changed]
        detail = f"changed since export: {', '.join([*differing, *missing])}. Run `pipeline export` again"
    return Check("files", "hashes", not changed and not missing, detail, {"changed": changed})


def check_graph(run: RunDirectory, signature: Signature, reference: Reference, targets: tuple[Target, ...]) -> Check:
    """Check the graph's form: contract, operators, a recurrent node each layer, the vocabulary, nothing outside."""
    problems: list[str] = []
    try:
        model = read_model(run / "model.onnx")
        problems += form_problems(model, targets)
        problems += _problems(model, signature, reference)
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # noqa: BLE001 - a damaged file fails in protobuf, in the checker or in the file system
        problems.append(first_line(error))
    detail = (
        "; ".join(problems) or f"as the signature says; {' and '.join(target.name for target in targets)} can load it"
    )
    measured = {"problems": problems, "targets": [target.name for target in targets]}
    return Check("files", "graph", not problems, detail, measured)


def check_weights(run: RunDirectory, reference: Reference) -> Check:
    """Check that every trained weight stands in the graph bit for bit, as it is or transposed."""
    graph = onnx.load(run / "model.onnx", load_external_data=False).graph
    stored = [numpy_helper.to_array(tensor) for tensor in graph.initializer]
    trained = {name: value.numpy() for name, value in with_onnx_layers(reference.model).state_dict().items()}
    other = [
        name
        for name, value in trained.items()
        if not any(np.array_equal(form, candidate) for candidate in stored for form in (value, value.T))
    ]
    count = sum(value.size for value in trained.values())
    detail = f"all {count:,} are the trained ones, bit for bit"
    if other:
        detail = f"not the trained ones: {', '.join(other)}"
    return Check("files", "weights", not other, detail, {"weights": count, "other": other})


def check_contract(engine: str, served: Contract, signature: Signature) -> Check:
    """Check that an endpoint serves what the run declares: interface, frame size, classes in their order."""
    ours = (signature.interface, signature.feature_size, signature.classes)
    theirs = (served.interface, served.feature_size, served.classes)
    detail = "interface and classes are the run's" if ours == theirs else f"serves {theirs}, the run declares {ours}"
    return Check(engine, "contract", ours == theirs, detail)


def _problems(model: onnx.ModelProto, signature: Signature, reference: Reference) -> Iterator[str]:
    graph = model.graph
    if signature.contract != reference.signature.contract:
        yield "signature.json does not declare the contract of this run: its classes or tensors differ"
    for kind, declared, found in (
        ("input", signature.inputs, graph.input),
        ("output", signature.outputs, graph.output),
    ):
        given = tuple(_tensor(info) for info in found)
        if given != declared:
            yield f"{kind}s are {given}, the signature declares {declared}"
    cell = reference.recipe.model.cell.upper()
    layers = [node for node in graph.node if node.op_type == cell]
    if len(layers) != reference.recipe.model.layers or not all(len(n.input) > 4 and n.input[4] for n in layers):
        yield f"wanted {reference.recipe.model.layers} {cell} node(s) with sequence_lens, found {len(layers)}"
    if reference.tokenizer and read_vocabulary(model) != reference.vocabulary:
        yield "its vocabulary is not the run's"


def _tensor(info: onnx.ValueInfoProto) -> Tensor:
    kind = info.type.tensor_type
    shape = tuple(axis.dim_param or axis.dim_value for axis in kind.shape.dim)
    dtype = _DTYPES.get(kind.elem_type)
    if dtype is None:
        raise PipelineError(f"{info.name}: element type {kind.elem_type} is none of the contract's")
    return Tensor(info.name, dtype, shape)
