"""Two conditions compared on the same items: by number of turns, by scenario, and over all.

Labels are given as {(item, length): 1.0 unsafe or 0.0 safe}; what only one condition has scored is left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from safemt_client.results.stats.intervals import change_interval, holm, paired

__all__ = ["Labels", "compared"]

Labels = Mapping[tuple[str, int], float]


def compared(first: Labels, second: Labels, scenario_of: Mapping[str, str]) -> list[dict[str, Any]]:
    """ASR of both on what both have scored, and the difference: the second minus the first.

    Rows are `by` length, scenario and all. p is that of McNemar's exact test for a length; a scenario, and
    all together, hold an item once for each length, so there it is that of items whose number of unsafe
    replies differs, by the sign test. `p_holm` is corrected by Holm's method over the lengths, or over the
    scenarios.
    Intervals resample items; `only_first` and `only_second` count items.
    """
    groups: dict[tuple[str, str | int], list[tuple[str, int]]] = defaultdict(list)
    for key in first:
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
