"""Rows that nobody has asked yet to requests: the run's own model is asked, in process."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from pipeline.drift.requests import Reading, Request
from pipeline.errors import UsageError
from pipeline.gate import asked
from pipeline.readers.rows import BadRow, Record, fault_of_frames
from pipeline.readers.source import interface_of, read_records, sha256_of_source
from pipeline.run_directory import RunDirectory
from pipeline.runtime import open_session
from pipeline.sequences import feed
from pipeline.signature import Interface

_WINDOW = 4096  # rows in memory
_BATCH = 64


class Model:
    """A run's exported model in ONNX Runtime.

    Raises:
        RunError: the run was not exported.
        PipelineError: the model does not load.
    """

    def __init__(self, run: RunDirectory) -> None:
        self.interface: Interface = run.info["interface"]
        self.feature_size: int | None = run.info["feature_size"]
        self._session = open_session(run.require("model.onnx"))

    def requests(self, rows: Sequence[Any]) -> Iterator[Request]:
        """Yield N > 0 valid rows as requests, in their order."""
        order = np.argsort([len(row) for row in rows], kind="stable")
        answers = asked(self._answer, rows, order, _BATCH)[np.argsort(order)]  # (N, C)
        for row, label, confidence in zip(rows, answers.argmax(1).tolist(), answers.max(1).tolist(), strict=True):
            is_text = isinstance(row, str)
            size = len(row.encode()) if is_text else len(row)
            yield Request(None, label, confidence, size, row if is_text else None)

    def _answer(self, rows: Sequence[Any]) -> np.ndarray:
        probabilities: np.ndarray = self._session.run(["probabilities"], feed(self.interface, rows))[0]
        return probabilities


def read_rows(source: str, column: str, model: Model, reading: Reading) -> Iterator[Request]:
    """Yield the rows of a file as requests; labels are neither wanted nor read.

    Raises:
        DataError: the file cannot be read, or most of its rows are damaged.
        UsageError: there is no such file or column, or its rows are not the model's kind.
    """
    if interface_of(source) != model.interface:
        raise UsageError(f"{source}: got {interface_of(source)}; the run's model takes {model.interface}.")
    records, found = read_records(source, column), 0
    while some := list(islice(records, _WINDOW)):
        rows = [row for record in some if (row := _row(record, source, model, reading)) is not None]
        valid = [row for row in rows if not isinstance(row, Request)]
        answered = model.requests(valid) if valid else iter(())
        for row in rows:
            reading.add(None)
            found += 1
            yield row if isinstance(row, Request) else next(answered)
    reading.files.append({"file": source, "sha256": sha256_of_source(source), "requests": found})


def _row(record: Record | BadRow, where: str, model: Model, reading: Reading) -> Any:
    """Return a text, frames, or the `Request` of an invalid row; None for what is no row at all, which is counted."""
    if isinstance(record, BadRow):
        reading.add_damaged(f"{where}: {record.unit} {record.number}", record.reason)
        return None
    row = record.input
    if isinstance(row, np.ndarray):
        if row.shape[1:] != (model.feature_size,):
            raise UsageError(
                f"{where}: got {row.shape[1]} numbers a frame; the run's model takes {model.feature_size}."
            )
        return Request(None, None, None, len(row)) if fault_of_frames(row) else row
    if not isinstance(row, str | None):
        reading.add_damaged(f"{where}: {record.unit} {record.number}", "text is not a string")
        return None
    text = row or ""  # null is an empty text
    content = text.encode(errors="replace")  # a byte that is not UTF-8 was read as half a surrogate pair
    return text if content.decode() == text else Request(None, None, None, len(content))
