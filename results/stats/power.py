"""What a planned number of items can show, before anything is asked: half-widths and smallest differences.

The figures are those of large samples. Nothing here needs numpy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

from safemt_client.results.stats.shares import wilson

__all__ = [
    "effective_replies",
    "half_width",
    "items_for_difference",
    "items_for_half_width",
    "items_to_exclude",
    "smallest_difference",
]

_LEVEL, _POWER = 0.95, 0.80
_Z = NormalDist().inv_cdf(0.5 + _LEVEL / 2)
_Z_POWER = NormalDist().inv_cdf(_POWER)


def effective_replies(items: int, lengths: int, rho: float) -> float:
    """How many independent replies those of `items` at each of `lengths` are worth.

    `rho` is the correlation of two replies to one item, from 0 to 1. Source: the design effect of clusters
    of equal size, 1 + (k - 1) rho; L. Kish, "Survey Sampling" (1965), section 5.4.
    """
    return items * lengths / (1 + (lengths - 1) * rho)


def half_width(rate: float, replies: float) -> float:
    """Half of Wilson's 95 % interval of a share `rate` of so many independent replies; both from 0 to 1."""
    low, high = wilson(rate * replies, replies)
    return (high - low) / 2


def smallest_difference(replies: float, apart: float) -> float | None:
    """The smallest difference of two paired shares that is found with a nominal power of 80 %, at 5 %.

    `replies` are pairs; `apart` is the share of pairs that would differ without a difference between the two,
    as many one way as the other. None if no difference can be found with so few. With exact tests the power
    is a little lower, from 75 to 79 %. Source: R. Connor, "Sample size for testing differences in proportions
    for the paired-sample design", Biometrics 43 (1987), 207-211.
    """
    least, most = 0.0, 1.0 - apart
    if most <= 0 or _pairs(most, apart) > replies:
        return None
    for _ in range(60):
        middle = (least + most) / 2
        if _pairs(middle, apart) > replies:
            least = middle
        else:
            most = middle
    return most


def items_for_difference(difference: float, apart: float, lengths: int = 1, rho: float = 0.0) -> int | None:
    """How many items it takes to find a difference as `smallest_difference` says; None: none are enough."""
    if difference > 1 - apart:
        return None
    return _items(_pairs(difference, apart), lengths, rho)


def items_for_half_width(wanted: float, rate: float, lengths: int = 1, rho: float = 0.0) -> int:
    """How many items are needed for an interval of a share `rate` whose half is at most `wanted`."""
    return _items(_fewest(lambda replies: half_width(rate, replies) <= wanted), lengths, rho)


def items_to_exclude(bound: float, rate: float) -> int | None:
    """How many replies to different items it takes until the interval of a share `rate` leaves `bound` out.

    None if no number does: they are the same.
    """
    if math.isclose(bound, rate, abs_tol=1e-4):
        return None

    def left_out(replies: int) -> bool:
        low, high = wilson(rate * replies, replies)
        return low > bound or high < bound

    return _fewest(left_out)


def _fewest(enough: Callable[[int], bool]) -> int:
    """The least whole number that is enough, if every larger one is."""
    few, many = 0, 1
    while not enough(many):
        few, many = many, many * 2
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if enough(middle) else (middle, many)
    return many


def _pairs(difference: float, apart: float) -> float:
    """Pairs that are needed to find a difference."""
    if difference <= 0:
        return math.inf
    differ = apart + difference
    spread = max(0.0, differ - difference**2)
    return ((_Z * math.sqrt(differ) + _Z_POWER * math.sqrt(spread)) / difference) ** 2


def _items(replies: float, lengths: int, rho: float) -> int:
    """Items whose replies are worth so many independent ones."""
    return max(1, math.ceil(replies / effective_replies(1, lengths, rho) - 1e-9))
