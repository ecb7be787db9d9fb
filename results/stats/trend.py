"""How attack success changes with the number of turns, tested by shuffling labels within items."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from safemt_client.results.stats.intervals import (
    Array,
    Interval,
    bootstrap_weights,
    interval_of,
)
from safemt_client.results.stats.shares import SMALL_EVENTS, SMALL_ITEMS

__all__ = ["Trend", "trend"]

_FEW_CHANGING = 50
_AT_ONCE = 250
"""Shuffles drawn together: many times as fast as one by one, in a few megabytes."""


@dataclass(frozen=True, slots=True)
class Trend:
    """How ASR changes with the number of turns: `slope` a turn, within items, and what it shows."""

    slope: Interval
    p: float
    verdict: str  # rises | falls | not shown
    items: int


def trend(
    labels: Array, lengths: Sequence[int], *, level: float = 0.95, permutations: int = 2000, seed: int = 0
) -> Trend:
    """Does ASR rise with the number of turns? The mean of the items' own slopes (least squares).

    `labels` is items x lengths. The interval resamples items; p, two-sided, is that of shuffling each item's
    labels over its lengths, which keeps the kind of item fixed: drawn where few items change, else by
    the normal distribution with the exact variance of a shuffled slope. Items that are all safe or all unsafe
    have slope 0 and stay in: they are evidence for no change. Source, for permutation tests of a linear
    statistic: E. Pitman, Suppl. J. Royal Statistical Society 4 (1937), 119-130.
    """
    scored = ~np.isnan(labels)
    usable = scored.sum(axis=1) >= 2
    kept, seen = labels[usable], scored[usable]
    items = int(usable.sum())
    if not items:
        return Trend(Interval(float("nan"), float("nan"), float("nan"), True), 1.0, "not shown", 0)
    slopes = _slopes(kept, seen, np.asarray(lengths, dtype=np.float64))
    estimate = float(slopes.mean())
    weights = bootstrap_weights(items, seed=seed)
    # Only items whose labels differ change under shuffling.
    moving = np.nanmax(kept, axis=1) != np.nanmin(kept, axis=1)
    changing = int(moving.sum())
    small = items < SMALL_ITEMS or changing < SMALL_EVENTS
    interval = interval_of(estimate, weights @ slopes / items, level=level, small=small)
    x = np.asarray(lengths, dtype=np.float64)
    if changing > _FEW_CHANGING:
        variance = float(_shuffled_variance(kept[moving], seen[moving], x).sum())
        p = math.erfc(abs(float(slopes.sum())) / math.sqrt(2 * variance))
    else:
        source = np.random.default_rng(seed)
        extreme = 1
        for done in range(0, permutations, _AT_ONCE):
            times = min(_AT_ONCE, permutations - done)
            shuffled = _shuffle(kept[moving], seen[moving], source, times)
            again = _slopes(shuffled, seen[moving], x).sum(axis=-1) / items
            extreme += int((np.abs(again) >= abs(estimate) - 1e-12).sum())
        p = extreme / (permutations + 1)
    shown = p < 1 - level
    verdict = ("rises" if estimate > 0 else "falls") if shown else "not shown"
    return Trend(interval, p, verdict, items)


def _slopes(labels: Array, scored: NDArray[np.bool_], lengths: Array) -> Array:
    """Least-squares slopes of the items, `labels`' last axis but one, over the lengths, its last."""
    count = scored.sum(axis=1)
    x = np.where(scored, lengths, 0.0)
    y = np.where(scored, labels, 0.0)
    centred = np.where(scored, lengths - (x.sum(axis=1) / count)[:, None], 0.0)
    found: Array = (centred * y).sum(axis=-1) / (centred**2).sum(axis=-1)
    return found


def _shuffled_variance(labels: Array, scored: NDArray[np.bool_], lengths: Array) -> Array:
    """The variance of each item's slope when its labels are shuffled over its lengths."""
    count = scored.sum(axis=1)
    x = np.where(scored, lengths, 0.0)
    y = np.where(scored, labels, 0.0)
    x_spread = (x**2).sum(axis=1) - x.sum(axis=1) ** 2 / count
    y_spread = (y**2).sum(axis=1) - y.sum(axis=1) ** 2 / count
    found: Array = y_spread / (count - 1) / x_spread
    return found


def _shuffle(labels: Array, scored: NDArray[np.bool_], source: np.random.Generator, times: int) -> Array:
    """Each item's labels in random orders: times x items x lengths. What is not scored stays in its place."""
    # Its keys are the largest, so that in the order it stays last.
    keys = np.where(scored, source.random((times, *labels.shape)), 2.0)
    order = np.argsort(keys, axis=-1)
    places = np.broadcast_to(np.argsort(~scored, axis=1, kind="stable"), order.shape)
    out = np.full(order.shape, np.nan)
    np.put_along_axis(out, places, np.take_along_axis(labels[None], order, axis=-1), axis=-1)
    return out
