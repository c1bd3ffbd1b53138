"""File formats to rows: a stream of records, one reader for each suffix, and the examples that they make.

::

    rows.py         what a reader yields: a `Record` as it stands in the file, or a `BadRow` with its number and the
                    reason; `examples` judges records that are to be learned from
    source.py       local paths and fsspec URIs to bytes; `read` and `read_records` choose the reader by suffix
    delimited.py    .csv .tsv          text
    json_lines.py   .jsonl .ndjson     text
    parquet.py      .parquet           text
    ts.py           .ts (UCR/UEA)      features
    npz.py          .npz               features

A reader takes an open binary file, which stays its caller's to close, and the names of what to read: with a label, or
without one (None) where nothing is to be learned. It holds a bounded part of the file in memory, and raises `DataError`
only when the file as a whole cannot be read. What is wrong with one row is a `BadRow`, and the next row is read.
"""
