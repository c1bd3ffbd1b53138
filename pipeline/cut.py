"""Where rows of unlike length are cut into runs of like length: padding costs as much as rows do.

Imported in process, and copied beside the embedded Triton's backend: it needs NumPy and nothing else.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]

BYTES_A_STEP = 6
"""A word of English with the space after it: how many steps a text takes, only the model knows."""

STEP_ROWS, RUN_STEPS, FULL_STEPS, LEAST_GAIN = 1, 32, 2048, 1 / 16
"""What one more run costs, in units of one step of one row: so many rows more at each of its steps, and so many steps
more for being called. A run of more steps than are full leaves the processor's cache. Gains below the least are noise
of lengths that are only near. Measured on LSTMs of 256 units in int8 and float32: from four rows on a row takes as long
in a run of any size, but for 64 rows of 230 steps, where it takes 1.1 to 1.5 times as long as in runs of eight.
"""


def steps_of(texts: Sequence[bytes]) -> Array:
    """Return about how many steps each of N texts takes, (N,) int64."""
    return np.fromiter(map(len, texts), np.int64, len(texts)) // BYTES_A_STEP + 1


def cut(steps: Array) -> list[int]:
    """Return where to cut rows of ascending length into runs, so that little of a run is padding; costs stand above.

    The cut is where it saves most, and each side is cut again while that gains. What is left is of like length, and cut
    evenly where it is more than the cache holds, but never into runs of fewer than eight rows.
    """
    rows, longest = len(steps), int(steps[-1])
    below = np.arange(1, rows)
    saved = below * (longest - steps[:-1]) - STEP_ROWS * steps[:-1] - RUN_STEPS
    if rows > 1 and saved.max() > LEAST_GAIN * rows * longest:
        at = int(saved.argmax()) + 1
        return [*cut(steps[:at]), at, *(at + further for further in cut(steps[at:]))]
    return list(range(size := max(8, FULL_STEPS // longest), rows, size))
