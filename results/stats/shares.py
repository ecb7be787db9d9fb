"""A share of counted things with its interval, and when a sample is small. Needs no numpy."""

from __future__ import annotations

import math
from typing import TypedDict

__all__ = ["SMALL_EVENTS", "SMALL_ITEMS", "Share", "share", "small_sample", "wilson"]

SMALL_ITEMS, SMALL_EVENTS = 30, 5
"""Below so many items or replies, or so many of either kind among them, the sample is small."""


class Share(TypedDict):
    """A share and its 95 % interval, from 0 to 1; all None where nothing was counted."""

    estimate: float | None
    low: float | None
    high: float | None
    small: bool


def share(hits: float, of: float) -> Share:
    """The share of `hits` among `of`, with Wilson's interval."""
    if not of:
        return {"estimate": None, "low": None, "high": None, "small": True}
    low, high = wilson(hits, of)
    return {"estimate": hits / of, "low": low, "high": high, "small": small_sample(hits, of)}


def small_sample(hits: float, of: float) -> bool:
    """Whether a share has fewer than 30 observations, or fewer than 5 of either kind."""
    return bool(of < SMALL_ITEMS or min(hits, of - hits) < SMALL_EVENTS)


def wilson(successes: float, n: float, z: float = 1.959963984540054) -> tuple[float, float]:
    """Wilson's score interval of a share (95 % by default).

    Source: E. B. Wilson, Journal of the American Statistical Association 22 (1927), 209-212.
    """
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)
