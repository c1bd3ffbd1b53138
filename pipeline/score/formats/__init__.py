"""File formats: where a file may be cut, its rows, and how answers are joined to them.

::

    columns.py      the columns that are added, and `Format`, what a format can do
    lines.py        .csv .tsv .jsonl .ndjson     bytes are kept as they are, and answers put behind them
    parquet.py      .parquet                     columns are kept as they are, with the schema's own metadata
"""

from pathlib import Path

from pipeline.score.formats.columns import Columns, Format, Range, Window, Writer
from pipeline.score.formats.lines import Delimited, JsonLines
from pipeline.score.formats.parquet import Parquet

__all__ = ["Columns", "Format", "Range", "Window", "Writer", "format_of"]


def format_of(path: Path, columns: Columns) -> Format:
    """Return the format of a file whose suffix is known."""
    match path.suffix.lower():
        case ".parquet":
            return Parquet(columns)
        case ".csv":
            return Delimited(columns, ",")
        case ".tsv":
            return Delimited(columns, "\t")
        case _:
            return JsonLines(columns)
