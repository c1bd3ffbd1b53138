"""Parquet to text records."""

from itertools import repeat
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import DataError
from pipeline.readers.rows import Record, Records, require_columns

BATCH_ROWS = 1024
_BYTES = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)


def read_parquet(file: IO[bytes], text: str = "text", label: str | None = "label") -> Records:
    """Yield the records of a Parquet file, batch by batch; a record's number counts rows from 1.

    Raises:
        DataError: the file is cut off or is not Parquet.
        UsageError: a column is missing, or named twice.
    """
    try:
        table = pq.ParquetFile(file)
        require_columns(table.schema_arrow.names, text, label)
        number = 0
        for batch in table.iter_batches(BATCH_ROWS, columns=[text] if label is None else [text, label]):
            labels = repeat(None, len(batch)) if label is None else _values(batch.column(label))
            for value, name in zip(_values(batch.column(text)), labels, strict=True):
                number += 1
                yield Record(number, value, name, "row")
    except (pa.ArrowException, KeyError, OSError, ValueError) as error:
        raise DataError(f"cannot be read as Parquet ({_first_line(error)}); the file may be cut off") from error


def _values(column: pa.Array) -> list[Any]:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if any(is_type(column.type) for is_type in _BYTES):
        # As bytes: Arrow would refuse the whole batch for one value that is not UTF-8.
        return [_decode(value) for value in column.cast(pa.large_binary()).to_pylist()]
    values: list[Any] = column.to_pylist()
    return values


def _decode(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="surrogateescape")


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0].rstrip(". ")
