"""A permutation test of two conditions on the same items: the two sides of whole items are exchanged."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

__all__ = ["exchange_p"]


def exchange_p(changes: NDArray[np.int64]) -> float:
    """Two-sided p of all exchanges of the two sides of whole items, the observed one among them.

    `changes` has, for each item, its unsafe replies under the second condition minus those under the first,
    on the replies that both have scored. Under no difference the two sides of an item, with all its lengths,
    might as well be the other way round. The figure is the ratio of sums; as both sides of an item have
    equally many replies, an exchange leaves the denominator as it is and turns the sign of the item's change.
    So p is the share of the patterns of signs whose sum is as far from 0 as the observed one. They are all
    counted, however many: items with equal changes differ only in how many of them are turned, which is
    binomial, and these counts are added up by convolution.

    Source, for tests by exchanging within pairs: R. Fisher, "The Design of Experiments" (1935), section 21.
    """
    sizes = np.bincount(np.abs(changes))
    # How likely it is that the items that are turned one way change by 0, 1, 2, ... together.
    chances = np.ones(1)
    for size, items in enumerate(sizes):
        if size and items:
            step = np.zeros(size * items + 1)
            step[::size] = _halves(int(items))
            chances = np.convolve(chances, step)
    reach = len(chances) - 1
    observed = abs(int(changes.sum()))
    sums = np.abs(2 * np.arange(reach + 1) - reach)
    return min(1.0, float(chances[sums >= observed].sum()))


@functools.lru_cache(maxsize=2048)
def _halves(items: int) -> NDArray[np.float64]:
    """The chance of 0, 1, 2, ... heads among so many tosses."""
    count = np.arange(1, items + 1)
    logs = np.concatenate(([0.0], np.cumsum(np.log((items - count + 1) / count))))
    found: NDArray[np.float64] = np.exp(logs - items * np.log(2.0))
    found.flags.writeable = False
    return found
