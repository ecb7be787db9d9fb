"""Two shares of the same items, each item once: McNemar's mid-p and Newcombe's paired interval."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from safemt_client.results.stats.intervals import Array, Interval
from safemt_client.results.stats.shares import SMALL_EVENTS, SMALL_ITEMS, wilson

__all__ = ["Paired", "mcnemar_mid_p", "newcombe_paired", "paired"]


@dataclass(frozen=True, slots=True)
class Paired:
    """The second share minus the first, over the `items` that have both; and p of no difference."""

    items: int
    difference: Interval
    p: float


def paired(first: Array, second: Array, level: float = 0.95) -> Paired:
    """Two columns of labels over the same items: 1 unsafe, 0 safe, NaN not scored."""
    both = ~np.isnan(first) & ~np.isnan(second)
    items = int(both.sum())
    if not items:
        return Paired(0, Interval(math.nan, math.nan, math.nan, True), 1.0)
    a, b = first[both] == 1, second[both] == 1
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    low, high = newcombe_paired(int((a & b).sum()), only_a, only_b, int((~a & ~b).sum()), level)
    small = items < SMALL_ITEMS or only_a + only_b < SMALL_EVENTS
    return Paired(items, Interval((only_b - only_a) / items, low, high, small), mcnemar_mid_p(only_a, only_b))


def mcnemar_mid_p(only_a: int, only_b: int) -> float:
    """Two-sided mid-p of McNemar's test for two counts of items that differ.

    Under no difference each of them is as likely to differ one way as the other. The mid-p counts half of
    the chance of what was observed, which keeps the level without the loss of power of the exact test.
    Source: M. Fagerland, S. Lydersen and P. Laake, BMC Medical Research Methodology 13 (2013), 91.
    """
    total = only_a + only_b
    # In whole numbers, exactly.
    ways = 1
    tail = 0
    for chosen in range(min(only_a, only_b)):
        tail += ways
        ways = ways * (total - chosen) // (chosen + 1)
    return float((2 * tail + ways) / (1 << total)) if only_a != only_b else 1.0


def newcombe_paired(
    both: int, only_a: int, only_b: int, neither: int, level: float = 0.95
) -> tuple[float, float]:
    """Bounds of the second share minus the first, from the counts of a table of two by two.

    Wilson's intervals of both shares, squared and added, with their correlation. Source: R. Newcombe,
    "Improved confidence intervals for the difference between binomial proportions based on paired data",
    Statistics in Medicine 17 (1998), 2635-2650, method 10. There must be an item.
    """
    items = both + only_a + only_b + neither
    z = NormalDist().inv_cdf(0.5 + level / 2)
    first, second = (both + only_a) / items, (both + only_b) / items
    low_1, high_1 = wilson(both + only_a, items, z)
    low_2, high_2 = wilson(both + only_b, items, z)
    margins = (both + only_b) * (only_a + neither) * (both + only_a) * (only_b + neither)
    product: float = both * neither - only_a * only_b
    if product > 0:
        # Method 10 corrects a positive correlation for continuity.
        product = max(product - items / 2, 0.0)
    phi = product / math.sqrt(margins) if margins else 0.0
    change = second - first
    down = _joined(second - low_2, high_1 - first, phi)
    up = _joined(high_2 - second, first - low_1, phi)
    return max(-1.0, change - down), min(1.0, change + up)


def _joined(one: float, other: float, phi: float) -> float:
    return math.sqrt(max(0.0, one**2 - 2 * phi * one * other + other**2))
