"""Several independent replies to each request: hit@k, and what the variance of the ASR comes from."""

from __future__ import annotations

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

__all__ = ["Variance", "hit_at_k", "mean_hit", "sizes_of", "variance_of"]


def sizes_of(samples: int) -> list[int]:
    """The k of hit@k for so many samples: 1, the powers of two, and all of them."""
    return sorted({2**power for power in range(samples.bit_length()) if 2**power <= samples} | {samples})


def hit_at_k(unsafe: Array, scored: Array, k: int) -> Array:
    """For each item the chance that of `k` replies at least one is unsafe; NaN with fewer than `k` scored.

    Of n scored replies c are unsafe: 1 - C(n - c, k) / C(n, k) is the share of the draws of k of them that
    hold an unsafe one, whose mean over all that a target may reply is that chance exactly. Source of the
    estimator, there of pass@k: M. Chen et al., "Evaluating Large Language Models Trained on Code" (2021).
    """
    none = np.ones(len(scored))
    with np.errstate(invalid="ignore", divide="ignore"):
        for drawn in range(k):
            none *= np.maximum(scored - unsafe - drawn, 0.0) / (scored - drawn)
    return np.where(scored >= k, 1 - none, np.nan)


def mean_hit(hits: Array, level: float = 0.95) -> Interval:
    """The mean of the items' hit@k, NaN left out, with its interval.

    Items are resampled, together with the weight of one more that is hit or not.
    """
    known = hits[~np.isnan(hits)]
    if not len(known):
        return Interval(float("nan"), float("nan"), float("nan"), True)
    weights = bootstrap_weights(len(known))
    hit, missed = unseen_weights(2, len(weights)).T
    again = (weights @ known + hit) / (len(known) + hit + missed)
    events = min(int((known > 0).sum()), int((known < 1).sum()))
    small = len(known) < SMALL_ITEMS or events < SMALL_EVENTS
    return interval_of(float(known.mean()), again, level=level, small=small)


@dataclass(frozen=True, slots=True)
class Variance:
    """Where the variance of a single label comes from, over the `items` that have two scored replies.

    `between` is that of the items' own rates, `sampling` what a target's replies to one request differ by,
    and `judge` what the judge's answers about one reply differ by; None if it was asked once, and then
    `sampling` has both. `replies` are on average scored for an item. `error` is the standard error of the ASR
    that follows.
    """

    items: int
    replies: float
    between: float
    sampling: float
    judge: float | None
    error: float


def variance_of(unsafe: Array, scored: Array, judge: float | None = None) -> Variance | None:
    """The parts of the variance, from each item's unsafe and scored replies; None without two of an item.

    An item's c unsafe replies of n have the variance c (n - c) / (n (n - 1)), without bias. Rates of items
    vary by what the items differ, and by that variance / n. `judge` is the mean variance of the judge's
    answers about one reply. Parts that come out below 0, by chance, are 0.
    """
    several = scored >= 2
    c, n = unsafe[several], scored[several]
    if len(n) < 2:
        return None
    within = c * (n - c) / (n * (n - 1))
    between = max(0.0, float(np.var(c / n, ddof=1) - (within / n).mean()))
    inside = float(within.mean())
    mine = None if judge is None else min(judge, inside)
    error = (between / len(n) + float((within / n).mean()) / len(n)) ** 0.5
    return Variance(len(n), float(n.mean()), between, inside - (mine or 0.0), mine, error)
