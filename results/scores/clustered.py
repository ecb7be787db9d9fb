"""A share of things of which several may be of one item, with what it was counted from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from safemt_client.results.stats.correction import clustered_share
from safemt_client.results.stats.shares import SMALL_ITEMS, share, small_sample

__all__ = ["clustered"]


def clustered(flags: Sequence[bool], items: Sequence[str]) -> dict[str, Any]:
    """`hits` of `of`, their share `estimate` and its 95 % interval; `items` has the item of each flag.

    What is of one item is kept together: the interval is Wilson's for as many independent observations as
    the share is worth, and plain Wilson's where each item is there once. `small` marks fewer than 30 items
    or fewer than 5 of either kind. The share is None where nothing was counted.
    """
    hits, of, distinct = sum(flags), len(flags), len(set(items))
    found: dict[str, Any] = {"hits": hits, "of": of}
    if distinct == of:
        return found | share(hits, of)
    interval, _ = clustered_share(np.array(flags, dtype=np.float64), np.ones(of), items)
    return found | {
        "estimate": hits / of,
        "low": interval.low,
        "high": interval.high,
        "small": distinct < SMALL_ITEMS or small_sample(hits, of),
    }
