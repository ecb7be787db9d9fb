"""How attack success changes with the number of turns, tested by the signs of the items' own slopes."""

from __future__ import annotations

import itertools
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
    unseen_weights,
)
from safemt_client.results.stats.pairs import holm
from safemt_client.results.stats.proportions import Paired, paired
from safemt_client.results.stats.shares import SMALL_EVENTS, SMALL_ITEMS

__all__ = ["Step", "Trend", "item_slopes", "mean_change", "sign_flip", "trend"]

_DRAWN = 20
"""From so many items with a slope on, signs are drawn: all patterns of fewer are half a million at most."""
_LEAST = 1e-12


@dataclass(frozen=True, slots=True)
class Step:
    """The change of ASR between two neighbouring lengths, over the `items` that are scored at both.

    `p` is that of the paired test, `p_holm` the same corrected over all neighbouring lengths.
    """

    first: int
    second: int
    items: int
    difference: Interval
    p: float
    p_holm: float


@dataclass(frozen=True, slots=True)
class Trend:
    """How ASR changes with the number of turns: `slope` a turn, within items, and what it shows.

    `drop` and `rise` are the largest changes between neighbouring lengths that are shown, None where none is.
    """

    slope: Interval
    p: float
    verdict: str  # rises | falls | not shown
    items: int
    drop: Step | None = None
    rise: Step | None = None


def trend(labels: Array, lengths: Sequence[int], *, level: float = 0.95, seed: int = 0) -> Trend:
    """Does ASR rise with the number of turns? The mean of the items' own slopes (least squares).

    `labels` is items x lengths, of several samples their mean; an item counts if it is scored at two lengths
    or more, by its slope over those. Items that are all safe or all unsafe have slope 0 and stay in: they are
    evidence for no change.
    The interval resamples items, together with the weight of one more that rises or falls as steeply as can
    be, so that it has a width also where few items changed. The test is `sign_flip`. A trend is shown where
    p is below 1 - `level` and the interval is without 0.
    """
    scored = ~np.isnan(labels)
    usable = scored.sum(axis=1) >= 2
    kept, seen = labels[usable], scored[usable]
    items = int(usable.sum())
    if not items:
        return Trend(Interval(float("nan"), float("nan"), float("nan"), True), 1.0, "not shown", 0)
    x = np.asarray(lengths, dtype=np.float64)
    slopes = item_slopes(kept, seen, x)
    estimate = float(slopes.mean())
    moving = slopes[slopes != 0]
    steepest = float(
        item_slopes((x > x.mean()).astype(np.float64)[None], np.ones((1, len(x)), dtype=bool), x)[0]
    )
    weights = bootstrap_weights(items, seed=seed)
    up, down = unseen_weights(2, len(weights)).T
    again = (weights @ slopes + (up - down) * steepest) / (items + up + down)
    small = items < SMALL_ITEMS or len(moving) < SMALL_EVENTS
    interval = interval_of(estimate, again, level=level, small=small)
    p = sign_flip(moving, seed=seed)
    verdict = "not shown"
    if p < 1 - level and not interval.low <= 0 <= interval.high:
        verdict = "rises" if estimate > 0 else "falls"
    shown = [step for step in _steps(labels, lengths, level) if _is_shown(step, level)]
    drops = [step for step in shown if step.difference.estimate < 0]
    rises = [step for step in shown if step.difference.estimate > 0]
    return Trend(
        interval,
        p,
        verdict,
        items,
        min(drops, key=lambda step: step.difference.estimate, default=None),
        max(rises, key=lambda step: step.difference.estimate, default=None),
    )


def sign_flip(values: Array, *, draws: int = 9999, seed: int = 0) -> float:
    """Two-sided p of the sum of independent values other than 0 that are as likely to have the other sign.

    That is so of the slopes of items without a trend, however alike neighbouring labels are. All
    patterns of signs are gone through for fewer than 20 values; else `draws` are drawn, and the observed
    pattern is counted in. Source: E. Pitman, Suppl. J. Royal Statistical Society 4 (1937), 119-130.
    """
    if not len(values):
        return 1.0
    sizes = np.abs(values)
    # Sums that are equal but for rounding are as extreme.
    needed = abs(float(values.sum())) - 1e-9 * float(sizes.sum())
    if len(sizes) < _DRAWN:
        # One sign may stay: each pattern's mirror image is as extreme.
        sums = sizes[:1]
        for size in sizes[1:]:
            sums = np.concatenate([sums - size, sums + size])
        return float((np.abs(sums) >= needed).mean())
    # Values of one size are drawn together: few sizes occur.
    source = np.random.default_rng(seed)
    sums = np.zeros(draws)
    for size, count in zip(*np.unique(np.round(sizes, 12), return_counts=True), strict=True):
        sums += size * (2 * _heads(int(count), draws, source) - count)
    return (1 + int((np.abs(sums) >= needed).sum())) / (draws + 1)


def _heads(tosses: int, draws: int, source: np.random.Generator) -> NDArray[np.int64]:
    """Draws of how many of so many tosses are heads: each toss is a random bit, which is far cheaper than a
    binomial number."""
    words = source.integers(0, 2**64, size=(draws, -(-tosses // 64)), dtype=np.uint64)
    words[:, -1] >>= np.uint64(-tosses % 64)
    found: NDArray[np.int64] = np.bitwise_count(words).sum(axis=1, dtype=np.int64)
    return found


def _steps(labels: Array, lengths: Sequence[int], level: float) -> list[Step]:
    """The paired changes between neighbouring lengths that have items in common."""
    order = np.argsort(lengths, kind="stable")
    found = []
    for one, two in itertools.pairwise(order):
        result = _change(labels[:, one], labels[:, two], level)
        if result.items:
            found.append((int(lengths[one]), int(lengths[two]), result))
    corrected = holm([result.p for _, _, result in found])
    return [
        Step(first, second, result.items, result.difference, result.p, p)
        for (first, second, result), p in zip(found, corrected, strict=True)
    ]


def _change(first: Array, second: Array, level: float) -> Paired:
    """McNemar's test where an item has one label at a length; of the means of several, `mean_change`."""
    several = any(bool(((side > 0) & (side < 1)).any()) for side in (first, second))
    return mean_change(first, second, level) if several else paired(first, second, level)


def mean_change(first: Array, second: Array, level: float = 0.95, *, seed: int = 0) -> Paired:
    """The mean over items of a second share minus a first, each the mean of an item's replies; NaN: none.

    Were there no difference, the two sides of an item might be exchanged: the test is `sign_flip`. The
    interval resamples items, together with the weight of one more that changes as much as can be.
    """
    change = (second - first)[~np.isnan(first) & ~np.isnan(second)]
    if not len(change):
        return Paired(0, Interval(math.nan, math.nan, math.nan, True), 1.0)
    weights = bootstrap_weights(len(change), seed=seed)
    up, down = unseen_weights(2, len(weights)).T
    again = (weights @ change + up - down) / (len(change) + up + down)
    moving = change[np.abs(change) > _LEAST]
    small = len(change) < SMALL_ITEMS or len(moving) < SMALL_EVENTS
    interval = interval_of(float(change.mean()), again, level=level, small=small)
    return Paired(len(change), interval, sign_flip(moving, seed=seed))


def _is_shown(step: Step, level: float) -> bool:
    """Whether its test, corrected, and its interval agree on a change."""
    return step.p_holm < 1 - level and not step.difference.low <= 0 <= step.difference.high


def item_slopes(labels: Array, scored: NDArray[np.bool_], lengths: Array) -> Array:
    """Each item's least-squares slope over its own scored lengths; `labels` is items x lengths."""
    count = scored.sum(axis=1)
    x = np.where(scored, lengths, 0.0)
    y = np.where(scored, labels, 0.0)
    centred = np.where(scored, lengths - (x.sum(axis=1) / count)[:, None], 0.0)
    found: Array = (centred * y).sum(axis=1) / (centred**2).sum(axis=1)
    # What is only rounding is no slope.
    return np.where(np.abs(found) < _LEAST, 0.0, found)
