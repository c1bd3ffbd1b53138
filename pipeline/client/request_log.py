"""A sample of what a model was asked and what it answered, for `pipeline drift` to compare with its training data.

One JSON object a line::

    {"time": "2026-01-31T12:00:00.000+00:00", "model": "sentiment", "version": "3",
     "label": "positive", "probability": 0.98, "probabilities": {"negative": 0.02, "positive": 0.98}, "valid": true,
     "bytes": 19, "text_hash": "5f1d…"}

`time` is UTC, when the answer came. Where `valid` is false, `label` and `probability` are null and `probabilities` is
empty. A text has `bytes`, its length in UTF-8, and either `text` or `text_hash`; a feature sequence has `frames`, its
length, and neither. A line is whole or not there. FILE is the newest; FILE.1, FILE.2, … are older and older.

A hash is keyed (BLAKE2b, RFC 7693): whoever has the log can guess a short text, such as a name, and compare its plain
hash; without the key there is nothing to compare with. Equal texts have equal hashes under one key only.
"""

import hashlib
import json
import logging
import os
import random
import secrets
from collections.abc import Sized
from datetime import UTC, datetime
from errno import ENOSPC
from pathlib import Path
from threading import Lock
from typing import Any, Literal

from pipeline.client.closing import Closing
from pipeline.client.prediction import Prediction, shortest
from pipeline.errors import UsageError

_logger = logging.getLogger(__name__)


class RequestLog(Closing):
    """A sampled log of one process, for its threads and clients to share; no request fails because of it.

    Args:
        path: the file; lines are added to one that is there. Only its owner may read what is made.
        share: the part of all rows that is written, from 0 to 1; each is drawn on its own.
        texts: `hashed`, or `plain` where the texts may be kept.
        key: the secret of the hashes, 16 to 64 bytes; None makes one that dies with this log.
        max_bytes: a file larger than this is followed by a new one.
        keep: how many older files are kept.
        seed: of the draw; None for another one each time.

    Attributes:
        written: rows in the log.
        lost: rows that could not be written.

    Raises:
        UsageError: an option is out of range, the file cannot be written, or another process writes it.
    """

    def __init__(
        self,
        path: Path,
        share: float = 0.01,
        *,
        texts: Literal["hashed", "plain"] = "hashed",
        key: bytes | None = None,
        max_bytes: int = 64 << 20,
        keep: int = 4,
        seed: int | None = None,
    ) -> None:
        if not 0 <= share <= 1:
            raise UsageError(f"share of the request log: wanted 0 to 1, got {share}.")
        if texts not in ("hashed", "plain"):
            raise UsageError(f"texts of the request log: wanted hashed or plain, got {texts}.")
        if max_bytes < 1 or keep < 1:
            raise UsageError(f"request log: wanted at least one byte and one older file, got {max_bytes} and {keep}.")
        if key is not None and not 16 <= len(key) <= hashlib.blake2b.MAX_KEY_SIZE:
            raise UsageError(f"key of the request log: wanted 16 to 64 bytes, got {len(key)}.")
        self.path, self.share, self.texts, self.max_bytes, self.keep = path, share, texts, max_bytes, keep
        self.written = self.lost = 0
        self._key = key or secrets.token_bytes(32)
        self._random = random.Random(seed)  # noqa: S311  a sample, not a secret
        self._lock = Lock()
        self._file: int | None = None
        try:
            self._file, self._size = _opened(path)
        except BlockingIOError as error:
            raise UsageError(f"{path}: another process writes this log. Give each its own file.") from error
        except OSError as error:
            raise UsageError(f"{path}: cannot be written: {error.strerror}.") from error

    def close(self) -> None:
        """Close the file; what is written afterwards is lost, and counted."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def is_drawn(self) -> bool:
        """Draw whether the next row is written."""
        return self._random.random() < self.share

    def write(self, model: str, version: str, row: bytes | Sized, prediction: Prediction) -> None:
        """Write one row, a text's bytes or frames, and its prediction."""
        record = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "model": model, "version": version}
        record |= _answer(prediction) | self._question(row)
        line = json.dumps(record, ensure_ascii=False).encode() + b"\n"
        with self._lock:
            try:
                self._append(line)
                self.written += 1
            except OSError as error:
                if not self.lost:
                    _logger.warning("%s: cannot be written: %s. Requests go on; rows are lost.", self.path, error)
                self.lost += 1

    def _question(self, row: bytes | Sized) -> dict[str, Any]:
        if not isinstance(row, bytes):
            return {"frames": len(row)}
        if self.texts == "plain":
            return {"bytes": len(row), "text": row.decode(errors="replace")}
        return {"bytes": len(row), "text_hash": hashlib.blake2b(row, key=self._key, digest_size=16).hexdigest()}

    def _append(self, line: bytes) -> None:
        if self._file is None:
            raise OSError("it is closed")
        if self._size and self._size + len(line) > self.max_bytes:
            self._rotate()
        if os.write(self._file, line) != len(line):
            os.ftruncate(self._file, self._size)  # a part of a line would spoil the next one too
            raise OSError(ENOSPC, os.strerror(ENOSPC))
        self._size += len(line)

    def _rotate(self) -> None:
        if self.path.exists():  # else an earlier rotation had got so far and could not open the new file
            for number in range(self.keep, 0, -1):
                newer = self._numbered(number - 1)
                if newer.exists():
                    newer.replace(self._numbered(number))
        file, size = _opened(self.path)
        self._file, old = file, self._file
        self._size = size
        if old is not None:
            os.close(old)

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}") if number else self.path


def _answer(prediction: Prediction) -> dict[str, Any]:
    if not prediction.valid:
        return {"label": None, "probability": None, "probabilities": {}, "valid": False}
    probabilities = {name: shortest(value) for name, value in prediction.probabilities.items()}
    probability = shortest(prediction.probability)
    return {"label": prediction.label, "probability": probability, "probabilities": probabilities, "valid": True}


def _opened(path: Path) -> tuple[int, int]:
    """Open a log for adding to it, and for nobody else to; return its descriptor and its size."""
    import fcntl  # not on Windows, where a client may be used without a log

    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return file, os.fstat(file).st_size
    except OSError:
        os.close(file)
        raise
