"""Request logs, as `pipeline.client`'s `RequestLog` writes them, to requests: a stream of lines."""

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.errors import DataError, UsageError
from pipeline.readers.source import has_reader, open_source

MOST_DAMAGED = 0.05
_MOST_NAMED = 3
_SURELY_DAMAGED = 1000  # lines after which a log of damaged ones is not read to its end
_HEAD_BYTES = 2**20  # by which a log is known
_MOST_BYTES = 2**40  # of a row
_CHOOSE = "Give the run that it was published from, or say with --model and --model-version whose requests are wanted."


@dataclass(frozen=True, slots=True)
class Request:
    """One row that was asked.

    Attributes:
        time: of the answer, in seconds since 1970; None where it is not known.
        label: the class's number; None for an invalid row.
        confidence: the probability of the label; None for an invalid row.
        size: of a text in bytes, of a sequence in frames.
        text: None where it was not kept.
    """

    time: float | None
    label: int | None
    confidence: float | None
    size: int
    text: str | None = None

    @property
    def is_valid(self) -> bool:
        """Whether the row was what it should be; only then it has an answer."""
        return self.label is not None


@dataclass
class Reading:
    """What was met while requests were read.

    Attributes:
        files: name, SHA-256 and requests of each file.
        damaged: lines that are no requests.
        first_damaged: the first of them, with file, line and reason.
        others: requests of other models or versions, which are left out, by model and version.
        versions: of the model, by how many requests of each; rows of files have none.
        rows: requests that were taken.
    """

    files: list[dict[str, Any]] = field(default_factory=list)
    damaged: int = 0
    first_damaged: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    rows: int = 0

    def add(self, version: str | None) -> None:
        """Count one request; None is the version of a row that nobody has asked before.

        Raises:
            UsageError: it is of another version than the ones before it.
        """
        self.rows += 1
        if version is not None:
            self.versions[version] += 1
            if len(self.versions) > 1:
                raise UsageError(
                    f"requests of versions {' and '.join(self.versions)}, of which the run is one at most. "
                    "Say which with --model-version."
                )

    def add_damaged(self, where: str, reason: str) -> None:
        """Count one damaged line or row.

        Raises:
            DataError: they are most of what was read, and many.
        """
        self.damaged += 1
        if len(self.first_damaged) < _MOST_NAMED:
            self.first_damaged.append(f"{where}: {reason}")
        if self.damaged >= _SURELY_DAMAGED:
            self.require_whole()

    def require_whole(self) -> None:
        """Check that few lines were damaged.

        Raises:
            DataError: too many were.
        """
        read = self.damaged + self.others.total() + self.rows
        if self.damaged > MOST_DAMAGED * read:
            raise DataError(
                f"{self.damaged:,} of {read:,} lines are damaged; allowed {MOST_DAMAGED:.0%}. "
                f"{'; '.join(self.first_damaged)}. Give logs that `pipeline.client` wrote, or files of rows."
            )


@dataclass(frozen=True)
class Asked:
    """The model whose requests are wanted.

    Attributes:
        name: in the repository.
        version: None for the only one in the log.
        classes: the run's.
        is_text: whether its rows are texts.
    """

    name: str
    version: str | None
    classes: tuple[str, ...]
    is_text: bool


def is_log(source: str) -> bool:
    """Tell a request log, whatever its suffix, from a file of rows that `pipeline.readers` reads."""
    if not has_reader(source):
        return True
    return source.lower().endswith((".jsonl", ".ndjson")) and b'"probabilities"' in _head(source)


def in_order(sources: Sequence[str]) -> list[str]:
    """Return sources in the order in which they begin: FILE.2, FILE.1, FILE of a rotated log; others stay behind."""
    return sorted(sources, key=lambda source: _beginning(source) if is_log(source) else "~")


def read_log(source: str, asked: Asked, reading: Reading) -> Iterator[Request]:
    """Yield a model's requests; the rest is counted in `reading`.

    Raises:
        DataError: the file cannot be read, or most of its lines are damaged.
        UsageError: there is no such file, or the requests are another model's.
    """
    digest, found = hashlib.sha256(), 0
    with open_source(source) as file:
        for number, line in enumerate(file, start=1):
            digest.update(line)
            try:
                record = _record(line)
                name, version = _value(record, "model", str), _value(record, "version", str)
                if name != asked.name or asked.version not in (None, version):
                    reading.others[f"{name} version {version}"] += 1
                    continue
                request = _request(record, asked)
            except _DamagedError as error:
                reading.add_damaged(f"{source}: line {number}", str(error))
                continue
            except UsageError as error:
                raise UsageError(f"line {number}: {error}") from error
            reading.add(version)
            found += 1
            yield request
    reading.files.append({"file": source, "sha256": digest.hexdigest(), "requests": found})


class _DamagedError(Exception):
    """A line is no request, for the reason that this says."""


def _record(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _DamagedError("not JSON") from error
    if not isinstance(record, dict):
        raise _DamagedError("not a JSON object")
    return record


def _request(record: dict[str, Any], asked: Asked) -> Request:
    """Return the request that a record holds.

    Raises:
        _DamagedError: it holds none.
        UsageError: it is of a model with other classes or other inputs.
    """
    size_key, other_key = ("bytes", "frames") if asked.is_text else ("frames", "bytes")
    if size_key not in record and other_key in record:
        raise UsageError(f"{asked.name} was asked for {other_key}; the run's model takes {size_key}. {_CHOOSE}")
    time, size = _time(record), _value(record, size_key, int)
    if not 0 <= size < _MOST_BYTES:
        raise _DamagedError(f"no proper {size_key!r}")
    if not _value(record, "valid", bool):
        return Request(time, None, None, size)
    label, confidence = _value(record, "label", str), _value(record, "probability", (int, float))
    classes = set(_value(record, "probabilities", dict))
    if classes != set(asked.classes):
        strange = sorted(classes ^ set(asked.classes))[0]
        raise UsageError(f"{asked.name} answers with other classes than the run's, such as {strange!r}. {_CHOOSE}")
    if label not in classes or not 0 <= confidence <= 1:
        raise _DamagedError("no proper 'label' or 'probability'")
    return Request(time, asked.classes.index(label), float(confidence), size, _kept_text(record))


def _kept_text(record: dict[str, Any]) -> str | None:
    if "text" not in record:
        return None
    text: str = _value(record, "text", str)
    try:
        text.encode()
    except UnicodeEncodeError as error:  # half a surrogate pair, which JSON can hold
        raise _DamagedError("no proper 'text'") from error
    return text


def _value(record: dict[str, Any], key: str, kind: type | tuple[type, ...]) -> Any:
    if not isinstance(record.get(key), kind):
        raise _DamagedError(f"no proper {key!r}")
    return record[key]


def _time(record: dict[str, Any]) -> float:
    try:
        time = datetime.fromisoformat(_value(record, "time", str))
        seconds = (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC).timestamp()
    except (ValueError, OverflowError) as error:
        raise _DamagedError("no proper 'time'") from error
    if seconds < 0:  # a clock that was never set, and some windows would begin before the first year
        raise _DamagedError("no proper 'time'")
    return seconds


def _beginning(source: str) -> str:
    """Return the time in a log's first line that has one; the empty text if none has."""
    for line in _head(source).splitlines():
        with contextlib.suppress(_DamagedError):
            return str(_value(_record(line), "time", str))
    return ""


def _head(source: str) -> bytes:
    """Return the beginning of a file; nothing of a pipe, which can be read once only, or of what is not there."""
    if "://" not in source and not Path(source).is_file():
        return b""
    with open_source(source) as file:
        return file.read(_HEAD_BYTES)
