"""One exchange of rows for predictions, without any input or output of its own: what to send, and what came back.

Rows are collected in a window, sorted by size, and cut into requests; the answers, whenever they come, are put back
in the order of the rows. Both transports drive this one class.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferResult, service_pb2

from pipeline.client.access import MESSAGE_BYTES
from pipeline.client.contract import Contract
from pipeline.client.prediction import Prediction
from pipeline.client.request_log import RequestLog
from pipeline.errors import DataError, RequestError

Row = str | bytes | NDArray[np.floating[Any]] | Sequence[Sequence[float]]

BATCH_BYTES = 8 << 20  # the most that rows are gathered into; a larger row travels alone
ROW_BYTES = MESSAGE_BYTES - (1 << 16)  # names, shapes and lengths need a little room beside it


@dataclass(frozen=True)
class Request:
    """A `ModelInferRequest`, and what is to be done with its answer.

    Attributes:
        message: the request.
        rows: the number that each of its rows has in the exchange.
        logged: the place in the request, and the packed row, of each one drawn for the log.
    """

    message: Any
    rows: tuple[int, ...]
    logged: tuple[tuple[int, Any], ...] = ()


class Exchange:
    """One stream of rows. Not for sharing between threads."""

    def __init__(
        self,
        contract: Contract,
        model: str,
        version: str,
        batch_size: int | None,
        in_flight: int,
        log: RequestLog | None = None,
    ) -> None:
        self.contract = contract
        self._log = log
        self._address = {"model_name": model, "model_version": version}
        self._batch_size = min(batch_size or contract.max_batch_size, contract.max_batch_size)
        self._window_size, self._window_bytes = self._batch_size * in_flight, BATCH_BYTES * in_flight
        self._window: list[tuple[int, int, Any]] = []  # (size, row number, packed row)
        self._bytes_seen = self._rows_seen = self._rows_answered = 0
        self._early: dict[int, Prediction] = {}

    def requests(self, rows: Iterable[Row]) -> Iterator[Request]:
        """Yield the requests that carry all rows, each as soon as its window is full."""
        for row in rows:
            yield from self.add(row)
        yield from self.cut()

    def add(self, row: Row) -> list[Request]:
        """Take one more row; return the requests to send now, most often none.

        Raises:
            DataError: the row is not of the model's kind or size, or too large to send.
        """
        packed = self._pack(row)
        size = memoryview(packed).nbytes
        if size > ROW_BYTES:
            raise DataError(f"row {self._rows_seen}: got {size:,} bytes, wanted at most {ROW_BYTES:,}.")
        self._window.append((size, self._rows_seen, packed))
        self._bytes_seen += size
        self._rows_seen += 1
        is_full = len(self._window) >= self._window_size or self._bytes_seen >= self._window_bytes
        return self.cut() if is_full else []

    def cut(self) -> list[Request]:
        """Return the requests for the rows collected so far."""
        window, self._window, self._bytes_seen = sorted(self._window, key=lambda row: row[:2]), [], 0
        batches: list[list[tuple[int, int, Any]]] = []
        for row in window:
            # Sorted, so this row is its batch's longest: with padding, every row takes as much as this one.
            if not batches or len(batches[-1]) == self._batch_size or (len(batches[-1]) + 1) * row[0] > BATCH_BYTES:
                batches.append([])
            batches[-1].append(row)
        return [self._request(batch) for batch in batches]

    def receive(self, request: Request, response: Any) -> Iterator[Prediction]:
        """Take a `ModelInferResponse`; yield the predictions whose turn has come.

        Raises:
            RequestError: the answer has not the outputs, or not the shape, that the contract promises.
        """
        predictions = list(self._predictions(response, len(request.rows)))
        if self._log:
            for place, row in request.logged:
                self._log.write(response.model_name, response.model_version, row, predictions[place])
        self._early.update(zip(request.rows, predictions, strict=True))
        while self._rows_answered in self._early:
            yield self._early.pop(self._rows_answered)
            self._rows_answered += 1

    def _pack(self, row: Row) -> Any:
        if self.contract.interface == "text":
            return _text_bytes(row, self._rows_seen)
        return _frames(row, self._rows_seen, self.contract.feature_size)

    def _request(self, batch: list[tuple[int, int, Any]]) -> Request:
        """Return one request.

        Shapes:
            text: (B, 1) STRING.
            features: (B, T, F) FP32, zeros past a row's length; lengths: (B, 1) INT64.
        """
        message = service_pb2.ModelInferRequest(**self._address)
        packed = [row for _, _, row in batch]
        if self.contract.interface == "text":
            content = b"".join(struct.pack("<I", len(text)) + text for text in packed)
            _add_input(message, "text", "BYTES", (len(batch), 1), content)
        else:
            lengths = np.array([[len(frames)] for frames in packed], "<i8")  # (B, 1)
            features = np.zeros((len(batch), lengths.max(), self.contract.feature_size or 0), "<f4")  # (B, T, F)
            for row, frames in zip(features, packed, strict=True):
                row[: len(frames)] = frames
            _add_input(message, "features", "FP32", features.shape, features.tobytes())
            _add_input(message, "lengths", "INT64", lengths.shape, lengths.tobytes())
        drawn = [place for place in range(len(batch)) if self._log.is_drawn()] if self._log else []
        return Request(
            message, tuple(number for _, number, _ in batch), tuple((place, packed[place]) for place in drawn)
        )

    def _predictions(self, response: Any, count: int) -> Iterator[Prediction]:
        result, classes = InferResult(response), self.contract.classes
        shapes = {"probabilities": (count, len(classes)), "label": (count, 1), "valid": (count, 1)}
        tensors = {name: result.as_numpy(name) for name in shapes}
        for name, wanted in shapes.items():
            if tensors[name] is None or tensors[name].shape != wanted:
                got = "none" if tensors[name] is None else tensors[name].shape
                raise RequestError(f"{response.model_name}: the answer's `{name}`: got {got}, wanted {wanted}.")
        valid = tensors["valid"][:, 0].tolist()
        labels = [label.decode() for label in tensors["label"][:, 0]]
        for label, values, is_valid in zip(labels, tensors["probabilities"].tolist(), valid, strict=True):
            probabilities = dict(zip(classes, values, strict=True))
            yield Prediction(label, probabilities.get(label, max(values)), probabilities, is_valid)


def _add_input(message: Any, name: str, datatype: str, shape: tuple[int, ...], content: bytes) -> None:
    message.inputs.add(name=name, datatype=datatype, shape=shape)
    message.raw_input_contents.append(content)


def _text_bytes(row: Row, number: int) -> bytes:
    """Return a text's bytes; a lone surrogate becomes bytes that are not UTF-8, for the model to call not valid."""
    if isinstance(row, bytes):
        return row
    if isinstance(row, str):
        return row.encode("utf-8", "surrogatepass")
    raise DataError(f"row {number}: got {type(row).__name__}, wanted text: this model takes str or bytes.")


def _frames(row: Row, number: int, feature_size: int | None) -> NDArray[np.float32]:
    """Return a feature sequence as (T, F) float32 after checking it."""
    try:
        with np.errstate(over="ignore"):  # too large for float32 becomes infinite, and is refused below
            frames = np.array(row, "<f4") if not isinstance(row, str | bytes) else None
    except (TypeError, ValueError) as error:
        raise DataError(f"row {number}: not a table of numbers ({error}), wanted (frames, {feature_size}).") from error
    if frames is None or frames.ndim != 2 or frames.shape[1] != feature_size or not len(frames):
        got = type(row).__name__ if frames is None else f"shape {frames.shape}"
        raise DataError(
            f"row {number}: got {got}, wanted numbers of shape (frames, {feature_size}) with at least one frame."
        )
    if not np.isfinite(frames).all():
        frame, column = np.argwhere(~np.isfinite(frames))[0]
        raise DataError(f"row {number}, frame {frame}, column {column}: not a finite float32 number.")
    return frames
