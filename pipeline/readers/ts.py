"""UCR/UEA time series (``.ts``) to feature rows.

Source: the aeon toolkit's description of the ``.ts`` format. A header of ``@`` lines, then one case on each line: its
dimensions divided by colons, each a list of numbers divided by commas, and the class label last.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np

from pipeline.errors import DataError
from pipeline.readers.rows import BadRow, Row, feature_row


@dataclass(frozen=True)
class _Header:
    dimensions: int | None  # F; None until the first case tells
    labels: frozenset[str]  # empty: any


def read_ts(file: IO[bytes]) -> Iterator[Row]:
    """Yield the cases of a ``.ts`` file, of unequal lengths and with several dimensions.

    Raises:
        DataError: the header is missing, or announces time stamps or no class label.
    """
    lines = enumerate(file, start=1)
    header = _header(lines)
    for number, line in lines:
        if not line.strip() or line.startswith(b"#"):
            continue
        row = _row(number, line, header)
        if header.dimensions is None and not isinstance(row, BadRow):
            header = _Header(np.shape(row.input)[1], header.labels)
        yield row


def _header(lines: Iterator[tuple[int, bytes]]) -> _Header:
    keys: dict[str, list[str]] = {}
    for number, line in lines:
        words = line.decode(errors="replace").split()
        if not words or words[0].startswith("#"):
            continue
        if not words[0].startswith("@"):
            raise DataError(f"line {number}: wanted an @ line of a .ts header, got {' '.join(words)[:40]!r}")
        if words[0].lower() == "@data":
            return _checked(keys)
        keys[words[0].lower()] = words[1:]
    raise DataError("the file has no @data line; wanted a .ts file in the UCR/UEA format")


def _checked(keys: dict[str, list[str]]) -> _Header:
    if keys.get("@timestamps", ["false"])[0].lower() == "true":
        raise DataError("the .ts header says @timeStamps true; only series without time stamps can be read")
    is_labelled, *labels = keys.get("@classlabel", ["false"])
    if is_labelled.lower() != "true":
        raise DataError("the .ts header has no `@classLabel true …`; there is nothing to learn")
    if keys.get("@univariate", ["false"])[0].lower() == "true":
        return _Header(1, frozenset(labels))
    size = keys.get("@dimensions", [""])[0]
    return _Header(int(size) if size.isdecimal() else None, frozenset(labels))


def _row(number: int, line: bytes, header: _Header) -> Row:
    try:
        *dimensions, label = line.decode().strip().split(":")
    except UnicodeDecodeError:
        return BadRow(number, "invalid UTF-8")
    if not dimensions or header.dimensions not in (None, len(dimensions)):
        return BadRow(number, "malformed: wrong number of dimensions")
    if any("?" in dimension for dimension in dimensions):
        return BadRow(number, "missing or non-finite value")
    try:
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and a bad row
            series = [np.array(dimension.split(","), np.float32) for dimension in dimensions if dimension.strip()]
    except ValueError:
        return BadRow(number, "malformed: not a number")
    if len({len(values) for values in series}) > 1 or (series and len(series) != len(dimensions)):
        return BadRow(number, "malformed: dimensions of different lengths")
    if header.labels and label.strip() and label.strip() not in header.labels:
        return BadRow(number, "label is not one of @classLabel")
    frames = np.stack(series, axis=1) if series else np.empty((0, len(dimensions)), np.float32)  # (T, F)
    return feature_row(number, frames, label)
