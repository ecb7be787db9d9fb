"""Whether two conditions change alike with the number of turns: the items' own slopes, pair by pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from safemt_client.results.stats.intervals import (
    Array,
    Interval,
    bootstrap_weights,
    interval_of,
    unseen_weights,
)
from safemt_client.results.stats.shares import SMALL_EVENTS, SMALL_ITEMS
from safemt_client.results.stats.trend import item_slopes, sign_flip

__all__ = ["SlopeDifference", "slope_difference"]


@dataclass(frozen=True, slots=True)
class SlopeDifference:
    """How much steeper the second condition is than the first, a turn, over `items` that have both slopes."""

    difference: Interval
    p: float
    items: int


def slope_difference(
    first: Array, second: Array, lengths: Sequence[int], *, level: float = 0.95, seed: int = 0
) -> SlopeDifference:
    """The mean over items of the second slope minus the first, over the lengths that both have scored.

    `first` and `second` are items x lengths, an item in the same row of both. An item counts if both have
    scored it at two lengths or more, the same ones. Were the conditions alike, an item's two sides might be
    exchanged, which turns the sign of its difference: the test is `sign_flip`. The interval resamples items,
    together with the weight of one more whose slopes differ as much as can be.
    """
    scored = ~(np.isnan(first) | np.isnan(second))
    usable = scored.sum(axis=1) >= 2
    items = int(usable.sum())
    if not items:
        return SlopeDifference(Interval(float("nan"), float("nan"), float("nan"), True), 1.0, 0)
    x = np.asarray(lengths, dtype=np.float64)
    seen = scored[usable]
    change = item_slopes(second[usable], seen, x) - item_slopes(first[usable], seen, x)
    change[np.abs(change) < 1e-12] = 0.0
    steps = (x > x.mean()).astype(np.float64)[None]
    most = 2 * float(item_slopes(steps, np.ones((1, len(x)), dtype=bool), x)[0])
    weights = bootstrap_weights(items, seed=seed)
    up, down = unseen_weights(2, len(weights)).T
    again = (weights @ change + (up - down) * most) / (items + up + down)
    moving = change[change != 0]
    small = items < SMALL_ITEMS or len(moving) < SMALL_EVENTS
    interval = interval_of(float(change.mean()), again, level=level, small=small)
    return SlopeDifference(interval, sign_flip(moving, seed=seed), items)
