"""Parquet: every column stays as it is, with the schema's own metadata and compression; the answers become four more.

Times in the old form of 96 bits, which Spark writes, become microseconds, as Spark means them: in nanoseconds those
after 2262 would silently be others.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import DataError, UsageError
from pipeline.readers.rows import BadRow
from pipeline.score.formats import columns as limits
from pipeline.score.formats.columns import Format, Range, Window, Writer
from pipeline.score.operator import Answers

BATCH_ROWS = 256  # so few that even long texts that the file holds once for many rows do not fill the memory
BATCH_BYTES = 4 * 2**20  # of rows that are decoded at once, as far as the file's own figures tell
MOST_RANGES = 16  # of one row group: each range decodes the group from its beginning
GROUP_ROWS, GROUP_BYTES = 2**17, 64 * 2**20  # of a row group that is written

_TEXT = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
    pa.types.is_null,
)


class Parquet(Format):
    """Tables in row groups."""

    def ranges(self, file: IO[bytes], rows: int) -> Iterator[Range]:
        """Cut a file between row groups, and large ones inside."""
        table = _open(file)
        self._require_text(table.schema_arrow)
        start = stop = 0
        for group in range(table.num_row_groups):
            count = table.metadata.row_group(group).num_rows
            if start < stop and stop - start + count > rows:
                yield _range(start, stop)
                start = stop
            stop += count
            if stop - start > rows:
                pieces = min(MOST_RANGES, -(-count // rows))
                cuts = [start + count * piece // pieces for piece in range(pieces + 1)]
                yield from map(_range, cuts, cuts[1:])
                start = stop
        if start < stop:
            yield _range(start, stop)

    def windows(self, file: IO[bytes], part: Range) -> Iterator[Window]:
        """Yield a range's rows as tables."""
        batches: list[pa.RecordBatch] = []
        number = part.number
        with _damage():
            for batch in _batches(_open(file), part):
                batches.append(batch)
                rows, size = sum(map(len, batches)), sum(batch.nbytes for batch in batches)
                if rows >= limits.WINDOW_ROWS or size >= limits.WINDOW_BYTES:
                    yield self._window(batches, number)
                    number += rows
                    batches = []
            if batches:
                yield self._window(batches, number)

    @contextmanager
    def writer(self, file: IO[bytes], path: Path) -> Iterator[Writer]:
        """Open a part, itself a Parquet file; a window becomes a row group."""
        schema = self._schema(_open(file).schema_arrow)
        with path.open("wb") as sink, pq.ParquetWriter(sink, schema) as part:

            def add(window: Window, answers: Answers) -> None:
                columns = [*window.rows.columns, *self._arrays(answers)]
                part.write_table(pa.table(columns, schema=schema))

            yield add

    def join(self, file: IO[bytes], parts: Sequence[Path], path: Path) -> None:
        """Write the rows of the parts, in row groups of a good size."""
        batches: list[pa.RecordBatch] = []
        table = _open(file)
        schema = self._schema(table.schema_arrow)
        with path.open("wb") as sink, pq.ParquetWriter(sink, schema, compression=_compression(table)) as whole:
            for part in parts:
                with part.open("rb") as content:
                    for batch in _open(content).iter_batches(BATCH_ROWS):
                        batches.append(batch)
                        size = sum(batch.nbytes for batch in batches)
                        if size >= GROUP_BYTES or sum(map(len, batches)) >= GROUP_ROWS:
                            whole.write_table(pa.Table.from_batches(batches, schema))
                            batches = []
            if batches:
                whole.write_table(pa.Table.from_batches(batches, schema))

    def _require_text(self, schema: pa.Schema) -> None:
        self.columns.require_room(schema.names, self.columns.added)
        kind = schema.field(self.columns.text).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not any(is_text(kind) for is_text in _TEXT):
            raise UsageError(f"column {self.columns.text!r} is {kind}; wanted texts. Choose with --column.")

    def _window(self, batches: list[pa.RecordBatch], number: int) -> Window:
        table = pa.Table.from_batches(batches)
        column = table.column(self.columns.text)
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        # As bytes: Arrow would refuse the whole batch for one value that is not UTF-8.
        texts = column.cast(pa.large_binary()).fill_null(b"")  # null is an empty text
        is_short = pc.less_equal(pc.binary_length(texts), limits.MOST_TEXT_BYTES)
        if pc.all(is_short).as_py():
            return Window(table, texts.to_pylist(), [])
        long = np.flatnonzero(~is_short.to_numpy(zero_copy_only=False))
        bad = [BadRow(number + int(row), limits.TOO_LONG, "row") for row in long]
        return Window(table.filter(is_short), texts.filter(is_short).to_pylist(), bad)

    def _schema(self, schema: pa.Schema) -> pa.Schema:
        shares = pa.struct([pa.field(name, pa.float32()) for name in self.columns.classes])
        for name, kind in zip(self.columns.added, (pa.string(), pa.float32(), shares, pa.bool_()), strict=True):
            schema = schema.append(pa.field(name, kind))
        return schema

    def _arrays(self, answers: Answers) -> list[pa.Array]:
        """Return the answers as columns; where a text is not valid, all but the last are null."""
        unknown = ~answers.valid
        shares = [pa.array(share) for share in answers.probabilities.T]
        return [
            pa.array(answers.labels, pa.string(), mask=unknown),
            pa.array(answers.probabilities.max(1), mask=unknown),
            pa.StructArray.from_arrays(shares, list(self.columns.classes), mask=pa.array(unknown)),
            pa.array(answers.valid),
        ]


def _range(start: int, stop: int) -> Range:
    return Range(start, stop, stop - start, start + 1)


def _open(file: IO[bytes]) -> pq.ParquetFile:
    with _damage():
        # A column of a row group is read in pieces.
        return pq.ParquetFile(file, buffer_size=2**20, coerce_int96_timestamp_unit="us")


def _compression(table: pq.ParquetFile) -> str:
    """Return that of the file's first column, as pyarrow's writer names it."""
    if not table.num_row_groups:
        return "SNAPPY"
    name = str(table.metadata.row_group(0).column(0).compression)
    return {"UNCOMPRESSED": "NONE", "LZ4_RAW": "LZ4"}.get(name, name)


def _batches(table: pq.ParquetFile, part: Range) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a range, a few at a time."""
    groups = [table.metadata.row_group(number) for number in range(table.num_row_groups)]
    ends = list(accumulate(group.num_rows for group in groups))
    touched = [
        number
        for number, (group, end) in enumerate(zip(groups, ends, strict=True))
        if part.start < end and end - group.num_rows < part.stop
    ]
    row_bytes = max(groups[number].total_byte_size // max(1, groups[number].num_rows) for number in touched)
    rows = min(BATCH_ROWS, max(1, BATCH_BYTES // max(1, row_bytes)))
    position = ends[touched[0]] - groups[touched[0]].num_rows
    for batch in table.iter_batches(rows, row_groups=touched):
        start, stop = max(0, part.start - position), min(len(batch), part.stop - position)
        if start < stop:
            yield batch.slice(start, stop - start)
        position += len(batch)
        if position >= part.stop:
            return


@contextmanager
def _damage() -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, KeyError, OSError, ValueError) as error:
        line = str(error).partition("\n")[0].rstrip(". ")
        raise DataError(f"cannot be read as Parquet ({line}); the file may be cut off") from error
