"""Two conditions compared on the same items: by number of turns, by scenario, and over all.

Labels are given as {(item, length): 1.0 unsafe or 0.0 safe}; what only one condition has scored is left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from safemt_client.results.stats.intervals import (
    Array,
    Interval,
    bootstrap_weights,
    interval_of,
    never_seen,
)
from safemt_client.results.stats.shares import SMALL_EVENTS, SMALL_ITEMS

__all__ = ["Labels", "Paired", "change_interval", "compared", "holm", "mcnemar", "paired"]

Labels = Mapping[tuple[str, int], float]


def compared(first: Labels, second: Labels, scenario_of: Mapping[str, str]) -> list[dict[str, Any]]:
    """ASR of both on what both have scored, and the difference: the second minus the first.

    Rows are `by` length, scenario and all. p is that of McNemar's exact test for a length; a scenario, and
    all together, contain an item once for each length, so there it is that of items whose number of unsafe
    replies differs, by the sign test. `p_holm` is corrected by Holm's method over the lengths, or over the
    scenarios.
    Intervals resample items; `only_first` and `only_second` count items.
    """
    groups: dict[tuple[str, str | int], list[tuple[str, int]]] = defaultdict(list)
    # In a fixed order, so that the same labels give the same resamples.
    for key in sorted(first):
        if key in second:
            item, length = key
            groups["length", length].append(key)
            groups["scenario", scenario_of.get(item, "unknown")].append(key)
            groups["all", "all"].append(key)
    rows = [
        {"by": by, "value": value} | _difference(keys, first, second) for (by, value), keys in groups.items()
    ]
    for by in ("length", "scenario", "all"):
        mine = [row for row in rows if row["by"] == by]
        for row, p in zip(mine, holm([row["p"] for row in mine]), strict=True):
            row["p_holm"] = p
    rows.sort(key=lambda row: (row["by"], row["value"]))
    return rows


def _difference(keys: Sequence[tuple[str, int]], first: Labels, second: Labels) -> dict[str, Any]:
    """Paired by item: each item's mean over the lengths that both have."""
    items: dict[str, list[float]] = defaultdict(list)
    for key in keys:
        items[key[0]].append(second[key] - first[key])
    change = np.array([sum(values) / len(values) for values in items.values()])
    worse, better = int((change > 0).sum()), int((change < 0).sum())
    result = paired(np.where(change < 0, 1.0, 0.0), np.where(change > 0, 1.0, 0.0))
    interval = change_interval(change, small=result.difference.small)
    return {
        "items": len(change),
        "replies": len(keys),
        "asr_first": sum(first[key] for key in keys) / len(keys),
        "asr_second": sum(second[key] for key in keys) / len(keys),
        "only_first": better,
        "only_second": worse,
        "p": result.p,
        "difference": asdict(interval),
    }


@dataclass(frozen=True, slots=True)
class Paired:
    """Two conditions on the same items: `only_a` are unsafe under the first alone, `only_b` under the second.

    `difference` is ASR of the second minus ASR of the first over the `items` that both have scored; `p` is
    that of the exact McNemar test.
    """

    items: int
    only_a: int
    only_b: int
    difference: Interval
    p: float


def paired(a: Array, b: Array, weights: Array | None = None, level: float = 0.95) -> Paired:
    """Compare two conditions on the same items, each an array of labels by item.

    The test is McNemar's, exact: under no difference each item that is unsafe under one condition alone is
    as likely to be so under the other. Sources: Q. McNemar, Psychometrika 12 (1947), 153-157, exact by the
    binomial distribution; the interval is that of `change_interval`.
    """
    both = ~np.isnan(a) & ~np.isnan(b)
    first, second = a[both], b[both]
    items = int(both.sum())
    only_a = int(((first == 1) & (second == 0)).sum())
    only_b = int(((first == 0) & (second == 1)).sum())
    if not items:
        return Paired(0, 0, 0, Interval(float("nan"), float("nan"), float("nan"), True), 1.0)
    change = second - first
    small = items < SMALL_ITEMS or only_a + only_b < SMALL_EVENTS
    if weights is not None:
        weights = weights[:, both]
    difference = change_interval(change, weights, level=level, small=small)
    return Paired(items, only_a, only_b, difference, mcnemar(only_a, only_b))


def change_interval(
    change: Array, weights: Array | None = None, *, level: float = 0.95, small: bool = False
) -> Interval:
    """The mean of the items' changes (each between -1 and 1), items resampled.

    Where all items change alike resampling shows nothing: then it is that of a share of items that may do
    anything else, as large as Wilson's bound for what was never seen.
    """
    estimate = float(change.mean())
    if np.ptp(change) < 1e-12:
        unseen = never_seen(len(change), level)
        alike = (1 - unseen) * estimate
        return Interval(estimate, max(-1.0, alike - unseen), min(1.0, alike + unseen), small)
    used = bootstrap_weights(len(change)) if weights is None else weights
    return interval_of(estimate, (used @ change) / used.sum(axis=1), level=level, small=small)


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided p of the exact McNemar test for two counts of items that differ."""
    total = only_a + only_b
    if total == 0:
        return 1.0
    # In whole numbers, exactly.
    ways = tail = 1
    for chosen in range(min(only_a, only_b)):
        ways = ways * (total - chosen) // (chosen + 1)
        tail += ways
    return min(1.0, 2 * tail / (1 << total))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the order given. Source: S. Holm, Scand. J. Statistics 6 (1979), 65-70."""
    order = np.argsort(p_values)
    adjusted = np.empty(len(p_values))
    most = 0.0
    for rank, index in enumerate(order):
        most = max(most, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = most
    return [float(p) for p in adjusted]
