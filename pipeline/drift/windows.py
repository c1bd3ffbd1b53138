"""Which window each request lies in: a stretch of time, or so many requests in the order they were read."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from pipeline.errors import DataError, UsageError

MOST_WINDOWS = 400
_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@dataclass(frozen=True)
class Window:
    """The size of a window: seconds, or requests (the other one is 0)."""

    seconds: int
    requests: int

    @classmethod
    def parse(cls, text: str) -> "Window":
        """Read ``30m``, ``6h``, ``1d``, ``2w`` or a number of requests.

        Raises:
            UsageError: it is none of these.
        """
        found = re.fullmatch(r"([1-9]\d{0,11})([mhdw]?)", text)
        if not found:
            raise UsageError(f"--window {text}: wanted a time such as 30m, 6h, 1d or 2w, or a number of requests.")
        number, unit = int(found[1]), found[2]
        return cls(number * _SECONDS[unit], 0) if unit else cls(0, number)

    def number(self, times: np.ndarray, first: int) -> np.ndarray:
        """Return the window of each request, (N,) int64, in the order of the windows.

        Args:
            times: (N,) seconds since 1970, of consecutive requests.
            first: requests read before them.

        Raises:
            DataError: a window of time is asked for, and a request has none.
        """
        if self.requests:
            return np.arange(first, first + len(times)) // self.requests
        if np.isnan(times).any():
            raise DataError("rows of a file have no time. Give --window a number of requests.")
        return (times // self.seconds).astype(np.int64)

    def name(self, number: int) -> str:
        """Say where a window begins: its time in UTC, or its first request, from 1."""
        if self.requests:
            return f"request {number * self.requests + 1:,}"
        return datetime.fromtimestamp(number * self.seconds, UTC).strftime("%Y-%m-%d %H:%M")
