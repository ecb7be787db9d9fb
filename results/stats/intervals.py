"""Intervals and tests for attack success rates, with the item as the unit of resampling and of pairing.

Items recur at every length and under every target, so the replies to one item are not independent: whole
items are resampled, and differences are taken within items. Labels are arrays over items (rows): 1.0 is
unsafe, 0.0 safe, NaN not scored.
"""

from __future__ import annotations

import functools
import math
import threading
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safemt_client.results.stats.shares import SMALL_ITEMS, small_sample

__all__ = [
    "Interval",
    "bootstrap_weights",
    "cluster_asr",
    "interval_of",
    "never_seen",
    "resampled_counts",
    "shortest",
    "unseen_weights",
]

Array = NDArray[np.float64]

RESAMPLES = 2000
_MOST_KEPT = 2**28
_KEEPING = threading.Lock()
_KEPT: dict[tuple[int, int, int], Array] = {}


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its interval. `small` marks a small sample."""

    estimate: float
    low: float
    high: float
    small: bool = False


def bootstrap_weights(items: int, resamples: int = RESAMPLES, seed: int = 0) -> Array:
    """How often each item occurs in each resample: an array of resamples x items, not to be written to.

    The latest are kept, so that figures about equally many items draw them once.

    Source: B. Efron and R. Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 6; the
    same weights for all figures keep their pairing.
    """
    asked = items, resamples, seed
    with _KEEPING:
        known = _KEPT.pop(asked, None)
        if known is None:
            known = resampled_counts(np.ones(items), resamples, seed)
            known.flags.writeable = False
        # The latest comes last; the first go while all take too much.
        _KEPT[asked] = known
        while len(_KEPT) > 1 and sum(one.nbytes for one in _KEPT.values()) > _MOST_KEPT:
            del _KEPT[next(iter(_KEPT))]
    return known


def resampled_counts(counts: NDArray[Any], resamples: int = RESAMPLES, seed: int = 0) -> Array:
    """How often each kind of items occurs in each resample of all of them: an array of resamples x kinds.

    `counts` is how many items are of each kind: items that are alike need not be told apart.
    """
    items = int(counts.sum())
    drawn = np.random.default_rng(seed).multinomial(items, counts / items, size=resamples)
    return drawn.astype(np.float64)


def interval_of(estimate: float, resampled: Array, *, level: float = 0.95, small: bool = False) -> Interval:
    """The percentile interval of resampled figures, NaN left out; it holds the estimate itself."""
    found = resampled[~np.isnan(resampled)]
    if not len(found):
        return Interval(estimate, float("nan"), float("nan"), True)
    tail = (1 - level) / 2
    ordered = np.sort(found)
    low, high = _quantile(ordered, tail), _quantile(ordered, 1 - tail)
    return Interval(estimate, min(low, estimate), max(high, estimate), small)


def _quantile(ordered: Array, share: float) -> float:
    """What `np.quantile` gives, of values in order: it loads the masked arrays, which no report needs."""
    place = share * (len(ordered) - 1)
    first = int(place)
    low, high = float(ordered[first]), float(ordered[min(first + 1, len(ordered) - 1)])
    part = place - first
    return high - (high - low) * (1 - part) if part >= 0.5 else low + (high - low) * part


@functools.lru_cache(maxsize=8)
def unseen_weights(kinds: int, resamples: int = RESAMPLES, seed: int = 0) -> Array:
    """Weights of kinds of items that none of those seen may be of: resamples x kinds, on average 1 / kinds.

    Not to be written to: figures of the same kinds draw them once.

    Added to the weights of the items that were seen, they give a resampled share Jeffreys' prior, which is
    Beta(.5, .5) if half of the kinds have what is counted, and a width even where all items are alike.
    Sources: D. Rubin, Annals of Statistics 9 (1981), 130-134; L. Brown, T. Cai and A. DasGupta, Statistical
    Science 16 (2001), 101-133.
    """
    # Apart from the stream that draws the items.
    found: Array = np.random.default_rng([seed, kinds]).gamma(1 / kinds, size=(resamples, kinds))
    found.flags.writeable = False
    return found


def shortest(draws: Array, level: float = 0.95) -> tuple[float, float]:
    """The shortest interval that holds this share of draws of a posterior: where it is skewed, its likeliest
    values rather than equal tails."""
    ordered = np.sort(draws)
    held = math.ceil(level * len(ordered))
    first = int((ordered[held - 1 :] - ordered[: len(ordered) - held + 1]).argmin())
    return float(ordered[first]), float(ordered[first + held - 1])


def cluster_asr(labels: Array, weights: Array) -> tuple[Array, Array]:
    """ASR of each column and its resampled values.

    `labels` is items x columns (lengths, targets, or both), or items x columns x samples, `weights` from
    `bootstrap_weights`. Returns arrays of columns and of resamples x columns; NaN where nothing is scored.
    """
    scored = ~np.isnan(labels)
    unsafe = np.where(scored, labels, 0.0)
    if labels.ndim > 2:
        scored, unsafe = scored.sum(axis=2), unsafe.sum(axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        estimate = unsafe.sum(axis=0) / scored.sum(axis=0)
        return estimate, (weights @ unsafe) / (weights @ scored.astype(np.float64))


def never_seen(items: int, level: float = 0.95) -> float:
    """Wilson's upper bound on the share of what was seen in none of these items."""
    z = NormalDist().inv_cdf(0.5 + level / 2)
    return z * z / (items + z * z)


def _small(labels: Array) -> bool:
    unsafe = np.nansum(labels)
    scored = (~np.isnan(labels)).sum()
    items = (~np.isnan(labels)).any(axis=1).sum()
    return bool(items < SMALL_ITEMS) or small_sample(unsafe, scored)
