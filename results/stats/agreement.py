"""How far labellers agree beyond chance: judges with each other, and judges with people."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["cohen_kappa", "krippendorff_alpha", "with_interval"]

Labels = NDArray[np.float64]


def cohen_kappa(a: Labels, b: Labels) -> float:
    """Cohen's kappa of two labellers; units that one of them has not labelled (NaN) are left out.

    NaN where chance alone would make them agree: both use one and the same label throughout. Source:
    J. Cohen, Educational and Psychological Measurement 20 (1960), 37-46.
    """
    both = ~np.isnan(a) & ~np.isnan(b)
    first, second = a[both], b[both]
    if not len(first):
        return float("nan")
    labels = np.union1d(first, second)
    observed = float((first == second).mean())
    expected = float(sum((first == label).mean() * (second == label).mean() for label in labels))
    return float("nan") if expected == 1 else (observed - expected) / (1 - expected)


def krippendorff_alpha(units: Labels) -> float:
    """Krippendorff's alpha for nominal labels: `units` is units x labellers, NaN where there is no label.

    Units with fewer than two labels do not count. NaN where all labels are the same. Source:
    K. Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011).
    """
    labels = np.unique(units[~np.isnan(units)])
    counts = np.stack([(units == label).sum(axis=1) for label in labels], axis=1) if len(labels) else None
    if counts is None:
        return float("nan")
    totals = counts.sum(axis=1)
    counts, totals = counts[totals >= 2], totals[totals >= 2]
    n = float(totals.sum())
    if n == 0:
        return float("nan")
    agreeing = (counts * (counts - 1)).sum(axis=1) / (totals - 1)
    observed = 1 - float(agreeing.sum()) / n
    by_label = counts.sum(axis=0).astype(np.float64)
    expected = 1 - float((by_label * (by_label - 1)).sum()) / (n * (n - 1))
    return float("nan") if expected == 0 else 1 - observed / expected


def with_interval(
    statistic: Callable[[Labels], float],
    units: Labels,
    items: Sequence[str] | None = None,
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """A statistic of units x labellers and its percentile interval; units of an item stay together."""
    names = np.asarray(items if items is not None else range(len(units)))
    _, cluster = np.unique(names, return_inverse=True)
    order = np.argsort(cluster, kind="stable")
    groups = np.split(order, np.cumsum(np.bincount(cluster))[:-1]) if len(units) else []
    source = np.random.default_rng(seed)
    found = []
    for _ in range(resamples if groups else 0):
        drawn = source.integers(0, len(groups), len(groups))
        found.append(statistic(units[np.concatenate([groups[g] for g in drawn])]))
    values = np.array(found)
    values = values[~np.isnan(values)]
    if not len(values):
        return statistic(units), float("nan"), float("nan")
    tail = (1 - level) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return statistic(units), float(low), float(high)
