"""The rate over several replies to each item, with the item as the unit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from safemt_client.results.stats.intervals import Interval, bootstrap_weights, interval_of
from safemt_client.results.stats.shares import SMALL_EVENTS, SMALL_ITEMS, wilson

__all__ = ["pooled_rate"]


def pooled_rate(hits: NDArray[np.float64], replies: NDArray[np.float64]) -> Interval:
    """Hits / replies over all items (one entry each), with its 95 % interval.

    Whole items are resampled. With fewer than 30 items, or fewer than 5 that have a hit or that lack one,
    resampling is too narrow: then Wilson's interval of so many items, as if an item's replies were all alike,
    which is the widest that they can be. NaN where there are no replies.
    """
    some = replies > 0
    hits, replies = hits[some], replies[some]
    if not len(replies):
        return Interval(float("nan"), float("nan"), float("nan"), True)
    estimate = float(hits.sum() / replies.sum())
    events = min(int((hits > 0).sum()), int((hits < replies).sum()))
    if len(replies) < SMALL_ITEMS or events < SMALL_EVENTS:
        low, high = wilson(estimate * len(replies), len(replies))
        return Interval(estimate, low, high, True)
    weights = bootstrap_weights(len(replies))
    return interval_of(estimate, (weights @ hits) / (weights @ replies))
