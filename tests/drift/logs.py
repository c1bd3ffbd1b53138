"""Write request logs as `pipeline.client`'s RequestLog does, out of answers that a run's own model gives."""

import dataclasses
import hashlib
import json
import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pipeline.dataset import HELD_OUT, Dataset
from pipeline.drift.answering import Model
from pipeline.drift.requests import Request
from pipeline.gate import rows_of
from pipeline.run_directory import RunDirectory

START = datetime(2026, 1, 31, 12, tzinfo=UTC)


def answered(run: RunDirectory) -> list[Request]:
    """Return the held-out rows of a run as they are answered."""
    dataset, model = Dataset(Path(run.info["dataset"])), Model(run)
    return [one for name in HELD_OUT for one in model.requests(rows_of(dataset.split(name), model.interface))]


def drawn(requests: list[Request], count: int, seed: int = 0) -> list[Request]:
    """Draw requests with replacement: production that has not drifted."""
    return random.Random(seed).choices(requests, k=count)  # noqa: S311  a sample, not a secret


def said(request: Request, text: str) -> Request:
    """Give a request another text, and leave its answer."""
    return dataclasses.replace(request, text=text, size=len(text.encode()))


def write_log(path: Path, run: RunDirectory, requests: Iterable[Request], **changes: Any) -> Path:
    """Write requests as one of each minute; a value in `changes` takes the place of the line's own."""
    lines = (line(run, request, START + timedelta(minutes=minute)) for minute, request in enumerate(requests))
    path.write_text("".join(json.dumps(one | changes, ensure_ascii=False) + "\n" for one in lines))
    return path


def line(run: RunDirectory, request: Request, time: datetime = START) -> dict[str, Any]:
    """Return a line of the log as an object."""
    record: dict[str, Any] = {"time": time.isoformat(timespec="milliseconds")}
    record |= {"model": run.info["name"], "version": "1"}
    if request.label is None:
        record |= {"label": None, "probability": None, "probabilities": {}, "valid": False}
    else:
        classes, confidence = run.info["classes"], request.confidence or 0.0
        rest = (1 - confidence) / (len(classes) - 1)
        probabilities = {name: confidence if n == request.label else rest for n, name in enumerate(classes)}
        label = classes[request.label]
        record |= {"label": label, "probability": confidence, "probabilities": probabilities, "valid": True}
    if run.info["interface"] == "features":
        return record | {"frames": request.size}
    return record | {"bytes": request.size} | ({} if request.text is None else {"text": request.text})


def hashed(path: Path) -> Path:
    """Put a hash in the place of every text of a log."""
    lines = [json.loads(one) for one in path.read_text().splitlines()]
    for one in lines:
        one["text_hash"] = hashlib.blake2b(one.pop("text").encode(), digest_size=16).hexdigest()
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path
