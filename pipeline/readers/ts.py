"""UCR/UEA time series (``.ts``) to feature records.

Source: the aeon toolkit's description of the ``.ts`` format. A header of ``@`` lines, then one case on each line: its
dimensions divided by colons, each a list of numbers divided by commas, and last the class label, if the
header announces one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import IO

import numpy as np

from pipeline.errors import DataError
from pipeline.readers.rows import BadRow, Record, Records


@dataclass(frozen=True)
class _Header:
    dimensions: int | None  # F; None until the first case tells
    is_labelled: bool  # each case ends with a class label or, in a set for regression, with a target
    labels: frozenset[str]  # empty: any


def read_ts(file: IO[bytes], *, is_labelled: bool = True) -> Records:
    """Yield the cases of a ``.ts`` file, of unequal lengths and with several dimensions.

    Without `is_labelled`, labels are left out if there are any.

    Raises:
        DataError: the header is missing, or announces time stamps or, where labels are wanted, no class label.
    """
    lines = enumerate(file, start=1)
    header = _header(lines, is_labelled)
    for number, line in lines:
        if not line.strip() or line.startswith(b"#"):
            continue
        record = _record(number, line, header)
        if isinstance(record, BadRow):
            yield record
            continue
        if header.dimensions is None:
            header = replace(header, dimensions=record.input.shape[1])
        yield record if is_labelled else replace(record, label=None)


def _header(lines: Iterator[tuple[int, bytes]], is_labelled: bool) -> _Header:
    keys: dict[str, list[str]] = {}
    for number, line in lines:
        words = line.decode(errors="replace").split()
        if not words or words[0].startswith("#"):
            continue
        if not words[0].startswith("@"):
            raise DataError(f"line {number}: wanted an @ line of a .ts header, got {' '.join(words)[:40]!r}")
        if words[0].lower() == "@data":
            return _checked(keys, is_labelled)
        keys[words[0].lower()] = words[1:]
    raise DataError("the file has no @data line; wanted a .ts file in the UCR/UEA format")


def _checked(keys: dict[str, list[str]], is_labelled: bool) -> _Header:
    if _is_true(keys, "@timestamps"):
        raise DataError("the .ts header says @timeStamps true; only series without time stamps can be read")
    has_class = _is_true(keys, "@classlabel")
    if is_labelled and not has_class:
        raise DataError("the .ts header has no `@classLabel true …`; there is nothing to learn")
    size = "1" if _is_true(keys, "@univariate") else " ".join(keys.get("@dimensions", []))
    return _Header(
        dimensions=int(size) if size.isdecimal() else None,
        is_labelled=has_class or _is_true(keys, "@targetlabel"),
        labels=frozenset(keys["@classlabel"][1:] if is_labelled else ()),
    )


def _is_true(keys: dict[str, list[str]], name: str) -> bool:
    return [word.lower() for word in keys.get(name, [])[:1]] == ["true"]


def _record(number: int, line: bytes, header: _Header) -> Record | BadRow:
    try:
        dimensions = line.decode().strip().split(":")
    except UnicodeDecodeError:
        return BadRow(number, "invalid UTF-8")
    label = dimensions.pop() if header.is_labelled else ""
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
    return Record(number, frames, label)
