"""Writes a prepared data set: wholly, or not at all.

A new set is made in a hidden folder beside its place, ``.NAME.*.tmp``, and takes the place of an earlier one by two
renames, between which the earlier one is ``.NAME.*.old``. What a killed run leaves of either, the next one clears away.
"""

import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.dataset import SPLITS, Dataset, SplitName
from pipeline.errors import DataError, UsageError
from pipeline.files import sha256_of, sync, write_json
from pipeline.signature import Interface

MOST_ROWS = 4096  # held in memory for each split,
MOST_BYTES = 2**25  # and about so many bytes


class DatasetWriter:
    """Writes rows to the three splits in the order they are given; made by `create_dataset`."""

    def __init__(self, folder: Path, interface: Interface, stack: ExitStack) -> None:
        self._splits = {
            name: _SplitWriter(stack.enter_context(pq.ParquetWriter(folder / f"{name}.parquet", schema(interface))))
            for name in SPLITS
        }
        self.profile: dict[str, Any] = {}

    def write(self, split: SplitName, value: str | NDArray[np.float32], label: str) -> None:
        """Add one row: a text, or (T, F) float32 frames."""
        self._splits[split].write(value, label)

    def flush(self) -> None:
        """Hand the rows still in memory to the files."""
        for split in self._splits.values():
            split.flush()


def schema(interface: Interface) -> pa.Schema:
    """Return the columns of a split's file."""
    value = pa.string() if interface == "text" else pa.list_(pa.list_(pa.float32()))
    return pa.schema([pa.field(interface, value, nullable=False), pa.field("label", pa.string(), nullable=False)])


@contextmanager
def create_dataset(target: Path, interface: Interface, *, replace: bool = False) -> Iterator[DatasetWriter]:
    """Write a prepared data set beside its place, and move it there when everything is on the disk.

    The caller writes rows and fills in `profile`, which becomes ``dataset.json`` together with the hashes. An earlier
    data set in the same place is replaced if it is damaged or has the same rows, or if `replace` says so; after a
    failure it is as it was.

    Raises:
        DataError: the folder cannot be written.
        UsageError: there is something in the place that is not a prepared data set, or another one.
    """
    claim(target)
    target = target.resolve()  # a link stays, and what it points to is replaced
    try:
        with _folder_beside(target) as folder:
            with ExitStack() as stack:
                writer = DatasetWriter(folder, interface, stack)
                yield writer
                writer.flush()
            hashes = {f"{name}.parquet": sha256_of(folder / f"{name}.parquet") for name in SPLITS}
            write_json(folder / "dataset.json", {"format": 1, **writer.profile, "hashes": hashes})
            for path in (*folder.iterdir(), folder):
                sync(path)
            replace_folder(folder, target, None if replace else hashes)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)  # Arrow's errors carry no strerror
        raise DataError(f"{target}: cannot be written: {reason}. What was there is intact.") from error


def claim(target: Path) -> None:
    """Clear away what killed runs left, and check that nothing but a prepared data set would be replaced.

    Raises:
        UsageError: there is a file, or a folder with other content.
    """
    _recover(target.resolve())
    if not target.exists():
        return
    is_dataset = (target / "dataset.json").is_file()
    if not target.is_dir() or (not is_dataset and any(target.iterdir())):
        raise UsageError(
            f"{target}: holds something other than a prepared data set, and is left alone. Choose another --to."
        )


def replace_folder(folder: Path, target: Path, hashes: dict[str, str] | None = None) -> None:
    """Put a folder in its place; the earlier one is removed last, and comes back when the move fails.

    Raises:
        UsageError: the earlier one is a data set with other `hashes`.
    """
    earlier = folder.with_suffix(".old")
    with _locked(target.parent):
        if hashes is not None:
            _refuse_another(target, hashes)
        had_earlier = target.exists()
        if had_earlier:
            target.rename(earlier)
        try:
            folder.rename(target)
        except OSError:
            if had_earlier:
                earlier.rename(target)
            raise
        sync(target.parent)
    shutil.rmtree(earlier, ignore_errors=True)


def _refuse_another(target: Path, hashes: dict[str, str]) -> None:
    with suppress(DataError):  # of a damaged data set nothing is lost
        if (target / "dataset.json").is_file() and Dataset(target).hashes != hashes:
            raise UsageError(
                f"{target}: holds another prepared data set, which runs may depend on, and is left alone. "
                "Use --replace, or choose another --to."
            )


@contextmanager
def _folder_beside(target: Path) -> Iterator[Path]:
    """Give a new folder, locked so that no other run takes it for a leftover; what stays of it is removed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = target.parent / f".{target.name}.{secrets.token_hex(4)}.tmp"
    with ExitStack() as stack:
        with _locked(target.parent):
            folder.mkdir()
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            stack.enter_context(_locked(folder))
        yield folder


def _recover(target: Path) -> None:
    """Put an earlier data set back if a run was killed between the two renames, and remove all other leftovers."""
    pattern = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}\.(tmp|old)")
    with suppress(OSError), _locked(target.parent):  # what cannot be cleared away does no harm
        leftovers = [path for path in target.parent.iterdir() if pattern.fullmatch(path.name)]
        for folder in sorted(leftovers, key=lambda path: path.stat().st_ctime_ns, reverse=True):
            if folder.suffix == ".old" and not target.exists() and (folder / "dataset.json").is_file():
                folder.rename(target)
                continue
            with suppress(BlockingIOError), _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path, operation: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Hold a folder against other processes; a killed one lets go of it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, operation)
        yield
    finally:
        os.close(descriptor)


class _SplitWriter:
    def __init__(self, file: pq.ParquetWriter) -> None:
        self._file = file
        self._values: list[str | NDArray[np.float32]] = []
        self._labels: list[str] = []
        self._bytes = 0

    def write(self, value: str | NDArray[np.float32], label: str) -> None:
        self._values.append(value)
        self._labels.append(label)
        self._bytes += len(value) if isinstance(value, str) else value.nbytes
        if len(self._values) >= MOST_ROWS or self._bytes >= MOST_BYTES:
            self.flush()

    def flush(self) -> None:
        if self._values:
            columns = [_column(self._values), pa.array(self._labels, pa.string())]
            self._file.write_table(pa.Table.from_arrays(columns, schema=self._file.schema))
        self._values, self._labels, self._bytes = [], [], 0


def _column(values: Sequence[str | NDArray[np.float32]]) -> pa.Array:
    if isinstance(values[0], str):
        return pa.array(values, pa.string())
    frames = np.concatenate(values)  # (sum of T, F)
    row_ends = np.cumsum([0, *map(len, values)], dtype=np.int32)
    frame_ends = np.arange(0, frames.size + 1, frames.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(row_ends, pa.ListArray.from_arrays(frame_ends, frames.reshape(-1)))
