"""A prepared data set: the folder that `pipeline data` writes and every later stage reads.

::

    DATA/
        dataset.json        interface, classes, row counts, SHA-256 of each split, where it came from
        train.parquet       columns `text` (string) or `features` (list of F-long float32 lists), and `label` (string)
        validation.parquet
        test.parquet
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.errors import DataError, RunError, UsageError
from pipeline.files import read_json, sha256_of
from pipeline.signature import Interface

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
HELD_OUT: tuple[SplitName, ...] = ("validation", "test")

_SHAPE = {"interface": str, "classes": [str], "hashes": {f"{name}.parquet": str for name in SPLITS}}


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

    def take(self, indices: NDArray[np.int64]) -> "Split":
        """Return some of the rows, in the order asked for."""
        return Split(self.inputs.take(pa.array(indices)), self.labels[indices])

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
        DataError: its files are damaged, or a split was changed after it was written.
        UsageError: there is no such folder, or it is not a prepared data set.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.profile = _read_profile(path)
        self.interface: Interface = self.profile["interface"]
        self.classes: tuple[str, ...] = tuple(self.profile["classes"])
        self.hashes: dict[str, str] = self.profile["hashes"]
        self.feature_size: int | None = self.profile.get("feature_size")  # F, the numbers in one frame; None for text

    def split(self, name: SplitName) -> Split:
        """Read one split, after checking that its bytes are the ones that were written.

        Raises:
            DataError: it is missing, unreadable, or changed.
        """
        path = self.path / f"{name}.parquet"
        try:
            if sha256_of(path) != self.hashes[path.name]:
                raise DataError(f"{path}: changed since `pipeline data` wrote it. Prepare the data set again.")
            table = pq.read_table(path, columns=[self.interface, "label"], memory_map=True)
            names, inputs = table["label"].to_pylist(), table[self.interface]
        except FileNotFoundError as error:
            raise DataError(f"{path}: no such file. Prepare the data set again.") from error
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}.") from error
        except (pa.ArrowException, KeyError) as error:
            raise DataError(f"{path}: damaged: {error}. Prepare the data set again.") from error
        numbers = {label: number for number, label in enumerate(self.classes)}
        if unknown := set(names) - numbers.keys():
            raise DataError(f"{path}: class {unknown.pop()!r} is not in dataset.json. Prepare the data set again.")
        return Split(inputs, np.fromiter((numbers[label] for label in names), np.int64, len(names)))


def has_shape(value: Any, shape: Any) -> bool:
    """Tell whether JSON has a shape: a type, a list of one shape, or a dict of some keys and the shapes of theirs."""
    if isinstance(shape, list):
        return isinstance(value, list) and all(has_shape(item, shape[0]) for item in value)
    if isinstance(shape, dict):
        return isinstance(value, dict) and all(has_shape(value.get(key), part) for key, part in shape.items())
    return isinstance(value, shape)


def damaged(path: Path) -> DataError:
    """Return the error for a data set whose ``dataset.json`` is not what was written."""
    return DataError(f"{path / 'dataset.json'}: cut off or edited. Prepare the data set again.")


def _read_profile(path: Path) -> dict[str, Any]:
    try:
        if not (path / "dataset.json").is_file():
            raise UsageError(
                f"{path}: not a prepared data set. Make one with `pipeline data split FILE --to {path}`, "
                "or `pipeline data fetch NAME`."
            )
        profile = read_json(path / "dataset.json")
    except (OSError, RunError) as error:
        raise damaged(path) from error
    if not has_shape(profile, _SHAPE) or profile["interface"] not in get_args(Interface):
        raise damaged(path)
    if not has_shape(profile.get("feature_size"), int if profile["interface"] == "features" else type(None)):
        raise damaged(path)
    content: dict[str, Any] = profile
    return content
