"""The inputs that someone else's model is asked about: drawn to its axes and data types, or rows that were given."""

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path

import numpy as np

from pipeline.archives import refuse_bombs
from pipeline.errors import DataError, PipelineError, UsageError
from pipeline.verify.cases import drawn_text
from pipeline.verify.foreign.spec import NUMPY_DTYPES, ModelSpec, TensorSpec, require

SIZES = (1, 2, 7, 64)
SEED = 0
MOST_NUMBERS = 50_000_000
MOST_COMBINATIONS = 1000

Inputs = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """What a model is asked once, and what the report calls it."""

    name: str
    inputs: Inputs


def sizes_of(spec: ModelSpec, wanted: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    """Return the sizes that each dynamic axis takes: those wanted, else 1, 2, 7 and 64.

    Raises:
        UsageError: a wanted axis is none of the model's, or together they are too much.
    """
    for name in wanted:
        if name not in spec.axes:
            raise UsageError(f"--axis {name}: no such axis; the inputs have {', '.join(spec.axes) or 'none'}.")
    sizes = {name: tuple(sorted(set(wanted.get(name, SIZES)))) for name in spec.axes}
    largest = {name: tried[-1] for name, tried in sizes.items()}
    for tensor in spec.inputs:
        if isinstance(tensor.most, str) and sizes[tensor.most][0] < (tensor.least or 0):
            raise UsageError(
                f"{tensor.name}: least {tensor.least} is more than {tensor.most} {sizes[tensor.most][0]}. "
                "Give larger sizes with --axis."
            )
        count = prod(_shape(tensor, largest))
        if count > MOST_NUMBERS:
            where = named(largest)
            raise UsageError(
                f"{tensor.name}: {count:,} numbers at {where}; at most {MOST_NUMBERS:,}. Give smaller ones with --axis."
            )
    if prod(map(len, sizes.values())) > MOST_COMBINATIONS:
        raise UsageError(
            f"{prod(map(len, sizes.values())):,} combinations of {', '.join(sizes)}; at most {MOST_COMBINATIONS:,}. "
            "Give fewer sizes with --axis."
        )
    return sizes


def unbounded(spec: ModelSpec) -> list[str]:
    """Return the inputs of whole numbers that nothing bounds, and that therefore cannot be drawn."""
    is_wide = {name: dtype.kind in "iu" and dtype.itemsize > 1 for name, dtype in NUMPY_DTYPES.items()}
    return [tensor.name for tensor in spec.inputs if is_wide[tensor.dtype] and tensor.most is None]


def drawn(spec: ModelSpec, sizes: Mapping[str, Sequence[int]]) -> Iterator[Case]:
    """Yield one drawn case for every combination of sizes; each has a seed of its own, whatever the others are."""
    for combination in product(*sizes.values()):
        yield draw(spec, dict(zip(sizes, combination, strict=True)))


def draw(spec: ModelSpec, sizes: Mapping[str, int]) -> Case:
    """Draw every input at some sizes of the axes."""
    generator = np.random.default_rng([SEED, *sizes.values()])
    inputs = {tensor.name: _draw(tensor, sizes, generator) for tensor in spec.inputs}
    return Case(named(sizes) or "the one shape", inputs)


def named(sizes: Mapping[str, int]) -> str:
    """Say some sizes: ``batch 7, seq 1``."""
    return ", ".join(f"{name} {size}" for name, size in sizes.items())


def read_rows(path: Path, spec: ModelSpec) -> dict[str, np.ndarray]:
    """Read the arrays of an ``.npz`` that have the inputs' names.

    Raises:
        UsageError: there is no such file, or it has no array for an input.
        DataError: it is damaged or pickled, or an array is of another type or shape, or has no rows.
    """
    try:
        with zipfile.ZipFile(require(path)) as archive:
            refuse_bombs(archive)
        with np.load(path, allow_pickle=False) as archive:
            names = list(archive)
            arrays = {tensor.name: archive[tensor.name] for tensor in spec.inputs if tensor.name in names}
    except PipelineError:
        raise
    except Exception as error:  # a damaged archive fails in zipfile, zlib or NumPy, in many ways
        raise DataError(f"{path}: not an archive of arrays ({error}). Write it with numpy.savez.") from error
    missing = [tensor.name for tensor in spec.inputs if tensor.name not in arrays]
    if missing:
        raise UsageError(f"{path}: no array for {', '.join(missing)}; it has {', '.join(names)}.")
    sizes: dict[str, int] = {}
    return {tensor.name: _fitting(path, tensor, arrays[tensor.name], sizes) for tensor in spec.inputs}


def cut(spec: ModelSpec, rows: Inputs) -> Iterator[Case]:
    """Yield given rows in batches of 1, 2, 7, and the rest by 64; all at once where there is no batch axis."""
    axis = spec.batch_axis
    if axis is None:
        yield Case("the given arrays", rows)
        return
    start, count, remaining = 0, count_of(spec, rows), iter(SIZES)
    while start < count:
        end = min(start + next(remaining, SIZES[-1]), count)
        yield Case(f"given rows {start}…{end - 1}", take(spec.inputs, axis, rows, np.arange(start, end)))
        start = end


def count_of(spec: ModelSpec, inputs: Inputs) -> int:
    """Return how many rows lie along the batch axis."""
    axis = spec.batch_axis
    tensor = next(tensor for tensor in spec.inputs if axis in tensor.shape)
    return inputs[tensor.name].shape[tensor.shape.index(axis)]


def take(tensors: Sequence[TensorSpec], axis: str, arrays: Inputs, indices: np.ndarray) -> dict[str, np.ndarray]:
    """Return some rows of every array that has an axis, and the others whole."""
    return {
        tensor.name: np.take(arrays[tensor.name], indices, tensor.shape.index(axis))
        if axis in tensor.shape
        else arrays[tensor.name]
        for tensor in tensors
    }


def _shape(tensor: TensorSpec, sizes: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(sizes[axis] if isinstance(axis, str) else int(axis or 0) for axis in tensor.shape)


def _draw(tensor: TensorSpec, sizes: Mapping[str, int], generator: np.random.Generator) -> np.ndarray:
    shape, dtype = _shape(tensor, sizes), NUMPY_DTYPES[tensor.dtype]
    least = tensor.least or 0
    most = sizes[tensor.most] if isinstance(tensor.most, str) else tensor.most
    if tensor.kind == "O":
        return np.array([drawn_text(generator) for _ in range(prod(shape))], object).reshape(shape)
    if tensor.kind == "b":
        return generator.integers(0, 2, shape).astype(bool)
    if tensor.kind == "f":
        values = generator.standard_normal(shape) if most is None else generator.uniform(least, most, shape)
        return np.asarray(values).astype(dtype)
    limits = np.iinfo(dtype)
    low, high = (limits.min, limits.max) if most is None else (int(least), int(most))
    return np.asarray(generator.integers(low, high, shape, dtype, endpoint=True))


def _fitting(path: Path, tensor: TensorSpec, array: np.ndarray, sizes: dict[str, int]) -> np.ndarray:
    """Return an array as the input's type; note and compare the sizes of its axes."""
    dtype = NUMPY_DTYPES[tensor.dtype]
    is_kind = array.dtype.kind in "SU" if tensor.kind == "O" else np.can_cast(array.dtype, dtype, "same_kind")
    is_fit = len(array.shape) == len(tensor.shape) and all(
        (sizes.setdefault(axis, size) if isinstance(axis, str) else axis) == size
        for axis, size in zip(tensor.shape, array.shape, strict=True)
    )
    if not is_kind or not is_fit:
        shape = [sizes.get(axis, axis) if isinstance(axis, str) else axis for axis in tensor.shape]
        raise DataError(f"{path}: {tensor.name} is {array.dtype} {list(array.shape)}, wanted {tensor.dtype} {shape}.")
    if not array.size:
        raise DataError(f"{path}: {tensor.name} has no rows: {list(array.shape)}.")
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8")
    cast = array.astype(dtype)
    if tensor.kind in "iu" and not np.array_equal(cast, array):
        raise DataError(f"{path}: {tensor.name} holds numbers that {tensor.dtype} does not.")
    return cast
