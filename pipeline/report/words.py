"""Numbers as words; a number that is not finite (null in JSON) is said to be so."""

import math
from typing import Any

NOT_FINITE = "not finite"
NONE = "–"


def is_finite(value: Any) -> bool:
    """Return whether a value from JSON is a number, and neither NaN nor infinite."""
    return isinstance(value, int | float) and math.isfinite(value)


def count(value: int) -> str:
    """Return 15394 as ``15,394``."""
    return f"{value:,}"


def percent(share: float | None) -> str:
    """Return 0.789 as ``78.90 %``."""
    return f"{share:.2%}".replace("%", " %") if share is not None and is_finite(share) else NOT_FINITE


def decimal(value: float | None, digits: int = 4) -> str:
    """Return a number with a fixed number of digits."""
    return f"{value:.{digits}f}" if value is not None and is_finite(value) else NOT_FINITE


def scientific(value: float | None) -> str:
    """Return 2.4e-7 as ``2.4e-07``, 1e-5 as ``1e-05``, and 0 as ``0``."""
    if value is None or not is_finite(value):
        return NOT_FINITE
    return f"{value:.1e}".replace(".0e", "e") if value else "0"


def plural(number: int, noun: str) -> str:
    """Return ``1 check``, ``2 checks``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
