"""The results: a line of JSON for each, appended as soon as it is there."""

import datetime
import json
import os
import platform
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

Result = dict[str, Any]


class Records:
    """A file of results.

    Each has ``set``, ``weights`` (the beginning of their SHA-256), ``contestant``, ``scenario``, ``repeat`` and
    ``value``: what is compared, in the unit of the scenario.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __iter__(self) -> Iterator[Result]:
        if self.path.exists():
            yield from map(json.loads, self.path.read_text().splitlines())

    def find(self, **wanted: Any) -> list[Result]:
        """Return those with the given values."""
        return [one for one in self if all(one[key] == value for key, value in wanted.items())]

    def append(self, result: Result, packages: Iterable[str]) -> None:
        """Write one more, with the machine, the versions of packages and the date."""
        described = {
            **result,
            "machine": f"{_processor()}, {len(os.sched_getaffinity(0))} cores",
            "versions": {package: version(package) for package in ("pipeline", *packages)},
            "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        }
        with self.path.open("a") as file:
            file.write(json.dumps(described) + "\n")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
