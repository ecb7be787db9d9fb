"""A share of things of which several may be of one item, with what it was counted from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from safemt_client.results.stats.correction import clustered_share, counted_by_item
from safemt_client.results.stats.shares import SMALL_ITEMS, Share, share, small_sample, wilson

__all__ = ["clustered", "share_by_item", "share_of_items"]


def clustered(flags: Sequence[bool], items: Sequence[str]) -> dict[str, Any]:
    """`hits` of `of`, their share `estimate` and its 95 % interval; `items` has the item of each flag.

    What is of one item is kept together: the interval is Wilson's for as many independent observations as
    the share is worth, and plain Wilson's where each item is there once. `small` marks fewer than 30 items
    or fewer than 5 of either kind. The share is None where nothing was counted.
    """
    return {"hits": sum(flags), "of": len(flags)} | share_of_items(flags, items)


def share_of_items(flags: Sequence[float], items: Sequence[str]) -> Share:
    """The share alone."""
    hits, of, distinct = int(sum(flags)), len(flags), len(set(items))
    if distinct == of:
        return share(hits, of)
    interval, _ = clustered_share(np.array(flags, dtype=np.float64), np.ones(of), items)
    return {
        "estimate": hits / of,
        "low": interval.low,
        "high": interval.high,
        "small": distinct < SMALL_ITEMS or small_sample(hits, of),
    }


def share_by_item(hits: ArrayLike, of: ArrayLike) -> Share:
    """The same of items that have so many hits among so many replies each."""
    counts = np.array([hits, of], dtype=np.float64).reshape(2, -1)
    found, replies = counts[:, counts[1] > 0]
    total, among = int(found.sum()), int(replies.sum())
    if among == len(replies):
        return share(total, among)
    counted = counted_by_item(found, replies, [str(place) for place in range(len(replies))])
    low, high = wilson(counted.share * counted.worth, counted.worth)
    small = len(replies) < SMALL_ITEMS or small_sample(total, among)
    return {"estimate": total / among, "low": low, "high": high, "small": small}
