"""How far labellers agree beyond chance: judges with each other, and judges with people."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from safemt_client.results.stats.intervals import Interval, shortest
from safemt_client.results.stats.shares import SMALL_EVENTS, SMALL_ITEMS

__all__ = ["ALPHA", "KAPPA", "Measure", "cohen_kappa", "krippendorff_alpha", "with_interval"]

Labels = NDArray[np.float64]

_BINARY = np.array([0.0, 1.0])
_DRAWS = 2000


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure of agreement as a function of sums over units.

    `parts` gives what is summed, a row for each unit of units x labellers, NaN where there is no label, under
    these possible labels; `value` is the measure of such sums, one or many.
    """

    parts: Callable[[Labels, Labels], Labels]
    value: Callable[[Labels], Labels]


def _kappa_parts(units: Labels, labels: Labels) -> Labels:
    known: NDArray[np.bool_] = np.isnan(units).sum(axis=1) == 0
    first, second = (known[:, None] & (units[:, [place]] == labels) for place in (0, 1))
    agree = known & (units[:, 0] == units[:, 1])
    return np.column_stack([known, agree, first, second]).astype(np.float64)


def _kappa(sums: Labels) -> Labels:
    n, agree = sums[..., 0], sums[..., 1]
    first, second = np.split(sums[..., 2:], 2, axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = (first * second).sum(axis=-1) / n**2
        found: Labels = (agree / n - expected) / np.where(expected < 1, 1 - expected, np.nan)
    return found


def _alpha_parts(units: Labels, labels: Labels) -> Labels:
    counts = np.stack([(units == label).sum(axis=1) for label in labels], axis=1, dtype=np.float64)
    totals = counts.sum(axis=1)
    counts[totals < 2] = 0
    agreeing = (counts * (counts - 1)).sum(axis=1) / np.maximum(totals - 1, 1)
    return np.column_stack([counts.sum(axis=1), agreeing, counts])


def _alpha(sums: Labels) -> Labels:
    n, agreeing, by_label = sums[..., 0], sums[..., 1], sums[..., 2:]
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = 1 - (by_label * (by_label - 1)).sum(axis=-1) / (n * (n - 1))
        return 1 - (1 - agreeing / n) / np.where(expected > 0, expected, np.nan)


KAPPA, ALPHA = Measure(_kappa_parts, _kappa), Measure(_alpha_parts, _alpha)


def cohen_kappa(a: Labels, b: Labels) -> float:
    """Cohen's kappa of two labellers; units that one of them has not labelled (NaN) are left out.

    NaN where chance alone would make them agree: both use one and the same label throughout. Source:
    J. Cohen, Educational and Psychological Measurement 20 (1960), 37-46.
    """
    return _of(KAPPA, np.stack([a, b], axis=1))


def krippendorff_alpha(units: Labels) -> float:
    """Krippendorff's alpha for nominal labels: `units` is units x labellers, NaN where there is no label.

    Units with fewer than two labels do not count. NaN where all labels are the same. Source:
    K. Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011).
    """
    return _of(ALPHA, units)


def _of(measure: Measure, units: Labels) -> float:
    labels = np.unique(units[~np.isnan(units)])
    return float(measure.value(measure.parts(units, labels).sum(axis=0))) if len(labels) else float("nan")


def with_interval(
    measure: Measure,
    units: Labels,
    items: Sequence[str] | None = None,
    times: NDArray[np.int64] | None = None,
    *,
    seed: int = 0,
) -> Interval:
    """A measure of units x labellers, of labels that are 0 or 1, and its 95 % interval.

    `times` says how often each unit occurs: of one item many may have the same labels.

    Items get random weights, all units of an item the same (the Bayesian bootstrap: D. Rubin, The Annals of
    Statistics 9 (1981), 130-134). With them come items that were not seen: half a one with full agreement on
    either label, and half a one with a single labeller who differs from either (Jeffreys' prior of a table
    of two). So labellers that agree on all have not been shown to agree always, and where one label is
    rare, little is known of how they agree on it. The estimate is that of the units alone.
    """
    names = np.arange(len(units)) if items is None else np.asarray(items, dtype=str)
    parts = measure.parts(units, _BINARY)
    often = np.ones(len(units), dtype=np.int64) if times is None else times
    counts = parts[:, 0] > 0
    units, parts, often = units[counts], parts[counts], often[counts]
    _, cluster = np.unique(names[counts], return_inverse=True)
    sums = np.stack([np.bincount(cluster, often * column) for column in parts.T], axis=1)
    estimate = float(measure.value(sums.sum(axis=0))) if len(units) else float("nan")
    if np.isnan(estimate):
        return Interval(estimate, float("nan"), float("nan"), True)
    unseen = measure.parts(_unseen(units.shape[1]), _BINARY)
    each = often.sum() / len(sums)
    source = np.random.default_rng(seed)
    seen_weights = source.standard_exponential((_DRAWS, len(sums)))
    prior = np.repeat([0.5, 1 / (len(unseen) - 2)], [2, len(unseen) - 2])
    unseen_weights = source.standard_gamma(prior, (_DRAWS, len(unseen)))
    scale = (len(sums) + 2) / (seen_weights.sum(axis=1) + unseen_weights.sum(axis=1))
    drawn = (seen_weights @ sums + each * (unseen_weights @ unseen)) * scale[:, None]
    values = measure.value(drawn)
    low, high = shortest(values[~np.isnan(values)])
    given = [often[(units == label).any(axis=1)].sum() for label in _BINARY]
    small = len(sums) < SMALL_ITEMS or min(given) < SMALL_EVENTS
    return Interval(estimate, min(low, estimate), max(high, estimate), bool(small))


def _unseen(labellers: int) -> Labels:
    """Units on which all agree, on either label, and then those on which one differs from all others."""
    alike = [[label] * labellers for label in _BINARY]
    apart = [
        [1 - label if place == other else label for place in range(labellers)]
        for label, other in itertools.product(_BINARY, range(labellers))
    ]
    return np.array(alike + apart)
