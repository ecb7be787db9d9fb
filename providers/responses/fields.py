"""Fields of an answer, which may be of any type: the value if it is of the one that is wanted, else None."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["MOST_TOKENS", "count", "finite", "first_count", "text_of"]

MOST_TOKENS = 10**9
"""An absurd count would not fit into the store, and would block an account forever."""

# Some servers, and gateways more often, write numbers as texts.
_NUMBER = re.compile(r"\s*[+-]?\d{1,20}(\.\d{1,20})?([eE][+-]?\d{1,3})?\s*", re.ASCII)


def text_of(value: Any) -> str | None:
    """A text that is not empty."""
    return value if isinstance(value, str) and value else None


def count(value: Any) -> int | None:
    """A count of tokens: a whole number from 0 to `MOST_TOKENS`, also as a float or as a text."""
    if value is None:
        return None
    if type(value) is int:
        return value if 0 <= value <= MOST_TOKENS else None
    number = finite(value)
    if number is None or not number.is_integer() or not 0 <= number <= MOST_TOKENS:
        return None
    return int(number)


def first_count(fields: Mapping[str, Any], names: Iterable[str]) -> int | None:
    """The first count among the fields of these names."""
    for name in names:
        if name in fields and (found := count(fields[name])) is not None:
            return found
    return None


def finite(value: Any) -> float | None:
    """A finite number, also as a text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
