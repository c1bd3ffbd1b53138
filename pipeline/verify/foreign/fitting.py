"""Check that a graph takes and gives what is declared: names, then data types, then axes."""

from collections.abc import Iterator

from pipeline.verify.foreign.spec import NUMPY_DTYPES, Axis, ModelSpec, TensorSpec
from pipeline.verify.parity_report import Check


def declared_checks(graph: ModelSpec, wanted: ModelSpec, source: str, *, is_signed: bool) -> Iterator[Check]:
    """Check names, then data types, then axes of a graph against what is wanted; stop at the first that fails.

    Args:
        graph: the model's own.
        wanted: what the signature, the reference's graph, or the model's own graph declares.
        source: which of these, for the messages.
        is_signed: whether it is a signature; only there is one fixed batch size meant.
    """
    for name, judge in (("names", _name_problems), ("dtypes", _dtype_problems), ("axes", _axis_problems)):
        problems = list(judge(graph, wanted, source))
        if name == "axes" and not is_signed:
            problems += _specialisation(wanted)
        detail = "; ".join(problems) or f"{_listing(wanted, name)}, as {source} says"
        if name == "axes" and not problems:
            detail += f"; {_rows(wanted, is_signed=is_signed)}"
        yield Check("graph", name, not problems, detail, {"problems": problems})
        if problems:
            return


def _rows(spec: ModelSpec, *, is_signed: bool) -> str:
    if spec.batch_axis is None:
        return "no axis that rows lie along"
    is_known = is_signed or spec.batch_axis == "batch"
    return f"rows lie along {spec.batch_axis}{'' if is_known else ', unless --signature says batch_axis'}"


def _name_problems(graph: ModelSpec, wanted: ModelSpec, source: str) -> Iterator[str]:
    for side in ("inputs", "outputs"):
        found, declared = ([tensor.name for tensor in getattr(spec, side)] for spec in (graph, wanted))
        if found != declared:
            order = "in another order: " if sorted(found) == sorted(declared) else ""
            yield f"{side} are {order}{', '.join(found)}; {source} declares {', '.join(declared)}"


def _dtype_problems(graph: ModelSpec, wanted: ModelSpec, source: str) -> Iterator[str]:
    for found, declared in _pairs(graph, wanted):
        if found.dtype not in NUMPY_DTYPES:
            advice = "; of a scikit-learn converter ask for zipmap=False" if "map" in found.dtype else ""
            yield f"{found.name} is {found.dtype}, which is none of {', '.join(NUMPY_DTYPES)}{advice}"
        elif found.dtype != declared.dtype:
            yield f"{found.name} is {found.dtype}; {source} declares {declared.dtype}"


def _axis_problems(graph: ModelSpec, wanted: ModelSpec, source: str) -> Iterator[str]:
    for found, declared in _pairs(graph, wanted):
        unnamed = [place for place, axis in enumerate(declared.shape) if axis is None]
        if unnamed:
            places = ", ".join(map(str, unnamed))
            yield f"{found.name}: axis {places} is dynamic and has no name: name it in --signature, or at export"
        elif not _fits(found.shape, declared.shape):
            yield f"{found.name} is {_shape(found)}; {source} declares {_shape(declared)}"


def _specialisation(spec: ModelSpec) -> Iterator[str]:
    first = [tensor.shape[0] for tensor in spec.inputs if tensor.shape]
    if first and all(isinstance(axis, int) for axis in first):
        listing = ", ".join(f"{tensor.name} {_shape(tensor)}" for tensor in spec.inputs)
        yield (
            f"no input's first axis is dynamic ({listing}): specialised to one batch size? "
            "Export it with dynamic_shapes, or declare the fixed shape in --signature"
        )


def _fits(found: tuple[Axis, ...], declared: tuple[Axis, ...]) -> bool:
    """Whether a graph's shape is the declared one; an axis that it leaves unnamed is whatever is declared."""
    return len(found) == len(declared) and all(ours in (None, axis) for ours, axis in zip(found, declared, strict=True))


def _pairs(graph: ModelSpec, wanted: ModelSpec) -> Iterator[tuple[TensorSpec, TensorSpec]]:
    yield from zip((*graph.inputs, *graph.outputs), (*wanted.inputs, *wanted.outputs), strict=True)


def _listing(graph: ModelSpec, what: str) -> str:
    word = {"names": lambda t: t.name, "dtypes": lambda t: t.dtype, "axes": _shape}[what]
    return " → ".join(", ".join(map(word, side)) for side in (graph.inputs, graph.outputs))


def _shape(tensor: TensorSpec) -> str:
    return f"[{', '.join('?' if axis is None else str(axis) for axis in tensor.shape)}]"
