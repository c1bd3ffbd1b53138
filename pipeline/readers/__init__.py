"""File formats to rows: a stream of examples and of bad rows, one reader for each suffix.

::

    rows.py         what a reader yields: an `Example`, or a `BadRow` with its number and the reason
    source.py       local paths and fsspec URIs to bytes; `read` chooses the reader by suffix
    delimited.py    .csv .tsv          text
    json_lines.py   .jsonl .ndjson     text
    parquet.py      .parquet           text
    ts.py           .ts (UCR/UEA)      features
    npz.py          .npz               features

A reader takes an open binary file, holds a bounded part of it in memory, and raises `DataError` only when the file as a
whole cannot be read. What is wrong with one row is a `BadRow`, and the next row is read.
"""
