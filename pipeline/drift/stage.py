"""A run and the requests of production to ``drift.json``."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.dataset import dataset_of
from pipeline.drift.answering import Model, read_rows
from pipeline.drift.measures import LEAST_ROWS, Expectation, Limits, Measure, Unmeasured, expect, judge
from pipeline.drift.requests import Asked, Reading, Request, in_order, is_log, read_log
from pipeline.drift.tally import Block, Tally
from pipeline.drift.windows import MOST_WINDOWS, Window
from pipeline.errors import DataError, UsageError
from pipeline.files import sha256_of, write_json
from pipeline.run_directory import RunDirectory
from pipeline.tokenizer import Tokenizer

RECORD = "drift.json"
_BLOCK = 4096


def drift(
    run: RunDirectory,
    sources: Sequence[str],
    *,
    limits: Limits | None = None,
    window: str | None = None,
    model: str | None = None,
    version: str | None = None,
    column: str = "text",
    data: Path | None = None,
) -> dict[str, Any]:
    """Compare the requests of production with what a run was trained on, and write ``drift.json``.

    Args:
        run: an exported run.
        sources: request logs, in any order; or files of rows, which the run's model is then asked.
        limits: beyond what a difference is drift.
        window: judge also each stretch of time (``1d``) or so many requests (``1000``).
        model: whose requests are wanted in a log; the run's own name by default.
        version: of the model; by default there must be only one in the log.
        column: of the texts in a file of rows.
        data: the data set, where it is no longer in the place it was trained from.

    Returns:
        The record. ``drifted`` names the measures that are beyond their limits over all requests or in the last
        window; the earlier windows show when it began.

    Raises:
        RunError: the run is not whole.
        DataError: the data set, a log or a file is missing or damaged, or there are too few requests to say anything.
        UsageError: the requests are another model's, an option is wrong, or there is no such file.
    """
    windows = Window.parse(window) if window else None
    limits, info = limits or Limits(), run.info
    asker, reading = Model(run), Reading()
    tokenizer = Tokenizer(run.require("tokenizer.onnx")) if asker.interface == "text" else None
    expected = expect(dataset_of(run, data), asker, tokenizer)
    asked = Asked(model or info["name"], version, expected.classes, is_text=tokenizer is not None)
    requests = _requests(in_order(sources), asked, asker, column, reading)
    whole, parts = _count(requests, expected, tokenizer, windows)
    reading.require_whole()
    _require_enough(whole, asked, reading)
    verdict = _verdict(judge(expected, whole, limits))
    named = [(windows.name(number), parts[number]) for number in sorted(parts)] if windows else []
    judged = [{"from": name, **_in_window(tally, expected, limits)} for name, tally in named]
    record = {
        "format": 1,
        "model_sha256": sha256_of(run / "model.onnx"),
        "model": asked.name,
        "versions": list(reading.versions),
        "files": reading.files,
        "first": _moment(whole.first),
        "last": _moment(whole.last),
        "requests": whole.rows,
        "damaged": {"lines": reading.damaged, "first": reading.first_damaged},
        "others": dict(reading.others),
        "drifted": _drifted(verdict["measures"], judged),
        **verdict,
        "window": window,
        "windows": judged,
    }
    write_json(run / RECORD, record)
    return record


def _requests(sources: Sequence[str], asked: Asked, asker: Model, column: str, reading: Reading) -> Iterator[Request]:
    for source in sources:
        if is_log(source):
            yield from read_log(source, asked, reading)
        else:
            yield from read_rows(source, column, asker, reading)


def _count(
    requests: Iterator[Request], expected: Expectation, tokenizer: Tokenizer | None, windows: Window | None
) -> tuple[Tally, dict[int, Tally]]:
    """Count all requests, and those of each window."""
    whole, parts = Tally(expected.scales), dict[int, Tally]()
    while some := list(islice(requests, _BLOCK)):
        block = Block.of(some, tokenizer)
        if windows:
            numbers = windows.number(block.times, whole.rows)
            there = np.unique(numbers).tolist()
            if len(parts.keys() | there) > MOST_WINDOWS:
                raise UsageError(f"--window: more than {MOST_WINDOWS} windows. Give it a larger size.")
            for number in there:
                parts.setdefault(number, Tally(expected.scales)).add(block, numbers == number)
        whole.add(block, np.ones(len(some), bool))
    return whole, parts


def _require_enough(whole: Tally, asked: Asked, reading: Reading) -> None:
    """Check that there are requests of the model, and enough of them.

    Raises:
        UsageError: the log holds requests of other models alone.
        DataError: there are too few.
    """
    if not whole.rows and reading.others:
        wanted = f"{asked.name}{'' if asked.version is None else f' version {asked.version}'}"
        there = ", ".join(f"{name} ({count:,})" for name, count in reading.others.most_common(5))
        raise UsageError(f"no request of {wanted}; the log has {there}. Say with --model and --model-version which.")
    if whole.rows < LEAST_ROWS:
        raise DataError(
            f"{whole.rows:,} requests of {asked.name}; wanted at least {LEAST_ROWS}: in fewer, chance looks like "
            "drift. Give more logs, or log a larger share."
        )


def _verdict(measures: Iterable[Measure | Unmeasured]) -> dict[str, Any]:
    taken, unmeasured = [], {}
    for measure in measures:
        if isinstance(measure, Measure):
            taken.append(measure)
        else:
            unmeasured[measure.name] = measure.reason
    return {"measures": [measure.record() for measure in taken], "unmeasured": unmeasured}


def _drifted(measures: Sequence[dict[str, Any]], windows: Sequence[dict[str, Any]]) -> list[str]:
    """Name the measures that are drift over all requests, or in the last window that is judged: that is now."""
    now: dict[str, Any] = next((window["measures"] for window in reversed(windows) if window["measures"]), {})
    names = [measure["name"] for measure in measures if measure["is_drift"]]
    return list(dict.fromkeys([*names, *(name for name, measure in now.items() if measure["is_drift"])]))


def _in_window(tally: Tally, expected: Expectation, limits: Limits) -> dict[str, Any]:
    """Return a window's requests and, if they are enough, its measures in short."""
    keys = ("value", "allowed", "is_drift")
    judged = _verdict(judge(expected, tally, limits))["measures"] if tally.rows >= LEAST_ROWS else []
    return {
        "requests": tally.rows,
        "measures": {measure["name"]: {key: measure[key] for key in keys} for measure in judged},
    }


def _moment(seconds: float) -> str | None:
    """Return a time as ISO 8601 in UTC; None where no request had one."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds") if np.isfinite(seconds) else None
