"""NumPy archives (``.npz``) to feature records, streamed out of the zip and never unpickled."""

import lzma
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from itertools import repeat
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from pipeline.archives import refuse_bombs
from pipeline.errors import DataError
from pipeline.readers.rows import BadRow, Record, Records, require_arrays

MOST_LABEL_BYTES = 2**30
DAMAGE = (  # what zipfile, its decompressors and NumPy raise for bytes that are not an archive of arrays
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    tokenize.TokenError,
    ArithmeticError,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
)

Vector = NDArray[Any]


@dataclass(frozen=True)
class Arrays:
    """The names of the arrays in the archive; without `labels`, none are read."""

    features: str = "features"
    lengths: str = "lengths"
    labels: str | None = "labels"


def read_npz(file: IO[bytes], arrays: Arrays = Arrays()) -> Records:
    """Yield the records of an archive of frames, lengths and labels; a record's number counts rows from 1.

    Shapes:
        features: (N, T, F) padded at the end, or (sum of lengths, F) one sequence after another; numbers.
        lengths: (N,) whole numbers.
        labels: (N,) words or whole numbers.

    Raises:
        DataError: the archive is cut off, or an array is pickled, or has another shape.
        UsageError: an array is missing.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            refuse_bombs(archive)
            names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
            require_arrays(names, [arrays.features, arrays.lengths, *([arrays.labels] if arrays.labels else [])])
            lengths = _vector(archive, arrays.lengths)
            labels = _vector(archive, arrays.labels) if arrays.labels else None
            with archive.open(f"{arrays.features}.npy") as stream:
                yield from _records(stream, lengths, labels, arrays)
    except DAMAGE as error:
        raise DataError(f"cannot be read as .npz ({error}); the file may be cut off") from error


def _records(stream: IO[bytes], lengths: Vector, labels: Vector | None, arrays: Arrays) -> Records:
    shape, dtype = _array_header(stream, arrays.features)
    is_padded = len(shape) == 3
    if lengths.dtype.kind not in "iu" or dtype.kind not in "fiu":
        raise DataError(f"{arrays.lengths} {lengths.dtype} and {arrays.features} {dtype}; wanted integers and numbers")
    if labels is not None and len(labels) != len(lengths):
        raise DataError(f"{arrays.labels} {labels.shape} do not go with {arrays.lengths} {lengths.shape}")
    wanted = len(lengths) if is_padded else int(lengths.sum())
    if len(shape) not in (2, 3) or shape[0] != wanted:
        raise DataError(
            f"{arrays.features} has shape {shape}; wanted (N, T, F), or (sum of {arrays.lengths} = {wanted}, F)"
        )
    names = repeat(None) if labels is None else labels.tolist()
    for number, (length, label) in enumerate(zip(lengths.tolist(), names, strict=False), start=1):
        steps = shape[1] if is_padded else length
        if length < 0 or length > steps:
            stream.read(_size(steps, shape, dtype))
            yield BadRow(number, "length is negative or beyond the array", "row")
            continue
        content = stream.read(_size(steps, shape, dtype))
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and a bad row
            frames = np.frombuffer(content, dtype).reshape(steps, shape[-1])[:length].astype(np.float32)  # (T, F)
        yield Record(number, frames, label, "row")


def _size(steps: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    return steps * shape[-1] * dtype.itemsize


def _array_header(stream: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    version = npy.read_magic(stream)  # type: ignore[no-untyped-call]
    if version not in readers:
        raise DataError(f"array {name!r} has .npy version {version}; wanted 1.0 or 2.0")
    shape, is_fortran, dtype = readers[version](stream)  # type: ignore[no-untyped-call]
    if dtype.hasobject:
        raise DataError(f"array {name!r} holds pickled objects, which are never read; save numbers or strings")
    if is_fortran and len(shape) > 1:
        raise DataError(f"array {name!r} is in column order; save np.ascontiguousarray of it")
    return shape, dtype


def _vector(archive: zipfile.ZipFile, name: str) -> Vector:
    with archive.open(f"{name}.npy") as stream:
        shape, dtype = _array_header(stream, name)
        size = int(np.prod(shape)) * dtype.itemsize
        if len(shape) != 1 or size > MOST_LABEL_BYTES:
            raise DataError(f"array {name!r} has shape {shape}; wanted (N,)")
        vector = np.frombuffer(stream.read(size), dtype)
        return vector.astype(np.str_) if dtype.kind == "S" else vector
