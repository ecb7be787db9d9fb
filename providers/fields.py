"""Fields of an answer, which may be of any type: the value if it is of the one that is wanted, else None."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["count", "finite", "text_of"]

_MOST_TOKENS = 10**9


def text_of(value: Any) -> str | None:
    """A text that is not empty."""
    return value if isinstance(value, str) and value else None


def count(value: Any) -> int | None:
    """A count of tokens; an absurd one would not fit into the store, and would block an account forever."""
    counted = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKENS
    return value if counted else None


def finite(value: Any) -> float | None:
    """A finite number."""
    try:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
