"""A prepared data set: the folder that `pipeline data` writes and every later stage reads.

::

    DATA/
        dataset.json        interface, classes, row counts, SHA-256 of each split, where it came from
        train.parquet       columns `text` (string) or `features` (list of F-long float32 lists), and `label` (string)
        validation.parquet
        test.parquet
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.errors import DataError, RunError
from pipeline.files import read_json, sha256_of
from pipeline.signature import Interface

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
HELD_OUT: tuple[SplitName, ...] = ("validation", "test")


@dataclass(frozen=True)
class Split:
    """The rows of one split.

    Attributes:
        inputs: a `text` column of N strings, or a `features` column of N lists of F-long float32 lists.
        labels: (N,) int64, the index of each row's class.
    """

    inputs: pa.ChunkedArray
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def texts(self, indices: NDArray[Any] | slice | None = None) -> list[str]:
        """Return the texts of the given rows (all of them by default)."""
        texts: list[str] = self._take(indices).to_pylist()
        return texts

    def frames(self, indices: NDArray[Any] | slice | None = None) -> list[NDArray[np.float32]]:
        """Return the feature sequences of the given rows, each (T, F) float32."""
        return [
            np.asarray(row.values.flatten().to_numpy(), np.float32).reshape(len(row.values), -1)
            for row in self._take(indices)
        ]

    def _take(self, indices: NDArray[Any] | slice | None) -> pa.ChunkedArray:
        if indices is None:
            return self.inputs
        if isinstance(indices, slice):
            return self.inputs[indices]
        return self.inputs.take(pa.array(indices))


class Dataset:
    """A prepared data set on disk.

    Raises:
        DataError: the folder is not a prepared data set, or a split was changed after it was written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.profile: dict[str, Any] = read_json(path / "dataset.json")
            self.interface: Interface = self.profile["interface"]
            self.classes = tuple(self.profile["classes"])
            self.hashes: dict[str, str] = dict(self.profile["hashes"])
        except (RunError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}: not a prepared data set. Make one with `pipeline data split FILE --to {path}`, "
                "or `pipeline data fetch NAME`."
            ) from error

    @cached_property
    def feature_size(self) -> int | None:
        """F, the numbers in one frame; None for text."""
        size: int | None = self.profile.get("feature_size")
        return size

    def split(self, name: SplitName) -> Split:
        """Read one split, after checking that its bytes are the ones that were written."""
        path = self.path / f"{name}.parquet"
        if not path.is_file():
            raise DataError(f"{path}: no such file. Prepare the data set again.")
        if sha256_of(path) != self.hashes.get(path.name):
            raise DataError(f"{path}: changed since `pipeline data` wrote it. Prepare the data set again.")
        table = pq.read_table(path, memory_map=True)
        numbers = {label: number for number, label in enumerate(self.classes)}
        try:
            labels = np.fromiter((numbers[label] for label in table["label"].to_pylist()), np.int64, len(table))
        except KeyError as error:
            raise DataError(f"{path}: class {error} is not in dataset.json. Prepare the data set again.") from error
        return Split(table[self.interface], labels)
