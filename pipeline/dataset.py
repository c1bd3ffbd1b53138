"""A prepared data set: the folder that `pipeline data` writes and every later stage reads.

::

    DATA/
        dataset.json        interface, classes, row counts, SHA-256 of each split, where it came from
        train.parquet       columns `text` (string) or `features` (list of F-long float32 lists), and `label` (string)
        validation.parquet
        test.parquet
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.cache import made_once
from pipeline.errors import DataError, RunError, UsageError
from pipeline.files import read_json, sha256_of
from pipeline.run_directory import RunDirectory
from pipeline.signature import Interface

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
HELD_OUT: tuple[SplitName, ...] = ("validation", "test")

_MOST_IN_MEMORY = 2**28  # bytes of a split; a larger one is mapped
_UNPACKED_ROWS = 1024
_WINDOW_BYTES = 2**24

_SHAPE = {"interface": str, "classes": [str], "hashes": {f"{name}.parquet": str for name in SPLITS}}


@dataclass(frozen=True)
class Split:
    """The rows of one split.

    Attributes:
        inputs: a `text` column of N strings, or a `features` column of N lists of F-long float32 lists.
        labels: (N,) int64, the index of each row's class.
        sha256: of the file whose rows these all are; None for some of them.
    """

    inputs: pa.ChunkedArray
    labels: NDArray[np.int64]
    sha256: str | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> "Split":
        """Return some of the rows, in the order asked for."""
        return Split(self.inputs.take(pa.array(indices)), self.labels[indices])

    def texts(self, indices: NDArray[Any] | slice | None = None) -> list[str]:
        """Return the texts of the given rows (all of them by default)."""
        texts: list[str] = self._take(indices).to_pylist()
        return texts

    def text(self, index: int) -> str:
        """Return the text of one row."""
        text: str = self.inputs[int(index)].as_py()
        return text

    def frames(self, indices: NDArray[Any] | slice | None = None) -> list[NDArray[np.float32]]:
        """Return the feature sequences of the given rows, each (T, F) float32."""
        return [
            np.asarray(row.values.flatten().to_numpy(), np.float32).reshape(len(row.values), -1)
            for row in self._take(indices)
        ]

    def windows(self) -> Iterator[slice]:
        """Yield slices of consecutive rows that together are all, each of about `_WINDOW_BYTES`."""
        size = max(1, len(self) * _WINDOW_BYTES // max(1, self.inputs.nbytes))
        for start in range(0, len(self), size):
            yield slice(start, start + size)

    def each_text(self) -> Iterator[str]:
        """Yield the texts, of which a window at a time is in memory."""
        for rows in self.windows():
            yield from self.texts(rows)

    def _take(self, indices: NDArray[Any] | slice | None) -> pa.ChunkedArray:
        if indices is None:
            return self.inputs
        if isinstance(indices, slice):
            start, end, _ = indices.indices(len(self))
            return self.inputs.slice(start, end - start)
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
            table = self._table(path)
            numbers = pc.index_in(table["label"], value_set=pa.array(self.classes, pa.string()))
            if numbers.null_count:
                strange = table["label"].filter(pc.is_null(numbers))[0].as_py()
                raise DataError(f"{path}: class {strange!r} is not in dataset.json. Prepare the data set again.")
            return Split(table[self.interface], numbers.to_numpy().astype(np.int64), self.hashes[path.name])
        except FileNotFoundError as error:
            raise DataError(f"{path}: no such file. Prepare the data set again.") from error
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}.") from error
        except (pa.ArrowException, KeyError) as error:
            raise DataError(f"{path}: damaged: {error}. Prepare the data set again.") from error

    def _table(self, path: Path) -> pa.Table:
        """Return a split's rows: in memory if they are few, else unpacked once in the cache and mapped from there."""
        columns = [self.interface, "label"]
        file = pq.ParquetFile(path, memory_map=True)
        groups = (file.metadata.row_group(number) for number in range(file.num_row_groups))
        if sum(group.total_byte_size for group in groups) <= _MOST_IN_MEMORY:
            return pq.read_table(path, columns=columns, memory_map=True)

        def unpack(folder: Path) -> None:
            batches = file.iter_batches(_UNPACKED_ROWS, columns=columns)
            first = next(batches)
            with pa.ipc.new_file(str(folder / "rows.arrow"), first.schema) as writer:
                writer.write_batch(first)
                for batch in batches:
                    writer.write_batch(batch)

        folder = made_once(f"rows-{self.hashes[path.name]}", unpack)
        return pa.ipc.open_file(pa.memory_map(str(folder / "rows.arrow"))).read_all()


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


def dataset_of(run: RunDirectory, path: Path | None = None) -> Dataset:
    """Open the data set a run was trained on, from where it was or from another place.

    Raises:
        DataError: it is gone, or it is another data set: a split's hash differs.
    """
    known = Path(run.info["dataset"])
    if path is None and not known.exists():
        raise DataError(f"{known}: gone; {run.path} was trained on it. Say where it is now with --data DIR.")
    dataset = Dataset(path or known)
    if dataset.hashes != run.info["dataset_hashes"]:
        raise DataError(f"{dataset.path}: not the data that {run.path} was trained on: the hashes differ.")
    return dataset
