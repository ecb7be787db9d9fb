"""Confidence sequences: intervals that hold at every look at once, of a mean over a known number of items.

The items are looked at in a random order that was fixed before, and without replacement: what is estimated
is the mean over all of them, which is known exactly once every item was seen. However often one looks and
whatever makes one stop, the chance that the truth is ever left out is at most `alpha`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["Mean", "Proportion"]

Array = NDArray[np.float64]


class Proportion:
    """The share of items that have something, where each has it or not: the prior-posterior ratio.

    `about` is a share that the sequence is to tell apart soonest, such as the bound of a rule; it has to be
    chosen beforehand and changes only how many items it takes. After s of t items, a number n of all N is
    left out once

        R_t(n) = BetaBinomial(s; t, a, b) / Hypergeometric(s; N, n, t) >= 1 / alpha

    and stays out. a / (a + b) is `about` with the smaller of a and b 1; without it both are .5.
    Source: I. Waudby-Smith and A. Ramdas, "Confidence sequences for sampling without replacement",
    NeurIPS 33 (2020), section 2.
    """

    def __init__(self, total: int, alpha: float, about: float | None = None) -> None:
        self.total, self.seen, self.hits = total, 0, 0
        self._limit = math.log(1 / alpha)
        self._prior = _prior(about)
        self._least, self._most = 0, total

    def add(self, hits: int) -> None:
        """Look at one more item, which has it (1) or not (0)."""
        self.seen += 1
        self.hits += hits
        # R falls up to the likeliest n and rises after it, and is below 1 there.
        likeliest = self.hits * (self.total + 1)
        mixed = self._mixed()
        while (
            self._least < self._most
            and (self._least + 1) * self.seen <= likeliest
            and self._out(self._least, mixed)
        ):
            self._least += 1
        while (
            self._least < self._most and self._most * self.seen > likeliest and self._out(self._most, mixed)
        ):
            self._most -= 1

    @property
    def low(self) -> float:
        """The least share that is left."""
        return _between(self._least / self.total, *_known(self.hits, self.seen, self.total))

    @property
    def high(self) -> float:
        """The greatest share that is left."""
        return _between(self._most / self.total, *_known(self.hits, self.seen, self.total))

    def _mixed(self) -> float:
        """The logarithm of the beta-binomial chance of what was seen, but for the ways to choose it."""
        a, b = self._prior
        return _log_beta(self.hits + a, self.seen - self.hits + b) - _log_beta(a, b)

    def _out(self, number: int, mixed: float) -> bool:
        """Whether what was seen speaks against so many of all items."""
        rest, rest_hits = self.total - self.seen, number - self.hits
        if not 0 <= rest_hits <= rest:
            return True
        likelihood = _log_choose(rest, rest_hits) - _log_choose(self.total, number)
        return mixed - likelihood >= self._limit


_FRACTIONS = np.geomspace(0.02, 0.9, 6)[:, None]
"""Shares of the capital that are bet, from cautious to bold."""
_STEPS = 2000
"""Means between which ends are not told apart: an interval is wider by at most 1 / _STEPS a side."""
_EDGE = 1e-9


class Mean:
    """The mean of items that each have 0 to `unit` of something, as a share of `unit`: hedged betting.

    For every mean m a gambler bets that the items' values are more than m, another that they are less; each
    has capital 1 / 2 at the start, so that m is left out, for good, once either has 1 / alpha. The value x
    of the item t + 1 is expected to be m_t = (N m - sum of those seen) / (N - t) if the mean is m, and the
    bet multiplies the capital by

        1 + g (x / m_t - 1),    for the other gambler 1 + g ((1 - x) / (1 - m_t) - 1);

    each gambler spreads the capital evenly over several shares g, so that none has to be known to be good.
    Then both capitals are monotone in m, and what is left is an interval. `points` are means that have to be
    told exactly, such as the bound of a rule; other ends are rounded outwards to 1/2000.

    Sources: I. Waudby-Smith and A. Ramdas, "Estimating means of bounded random variables by betting", J.
    Royal Statistical Society B 86 (2024), sections 4 and 5 (hedged capital; without replacement); I.
    Waudby-Smith, P. Stark and A. Ramdas, "RiLACS: risk limiting audits via confidence sequences" (2021), for
    bets that are spread over several shares.
    """

    def __init__(self, total: int, alpha: float, unit: int = 1, points: Sequence[float] = ()) -> None:
        self.total, self.unit, self.seen, self.hits = total, unit, 0, 0
        self._limit = 2 / alpha
        self._means: Array = np.union1d(np.linspace(0, 1, _STEPS + 1), np.asarray(points, dtype=np.float64))
        self._more: Array = np.full((len(_FRACTIONS), len(self._means)), 1 / len(_FRACTIONS))
        self._less: Array = self._more.copy()
        # Of the means, those that are left.
        self._first, self._after = 0, len(self._means)

    def add(self, hits: int) -> None:
        """Look at one more item, which has so many of `unit`."""
        left = slice(self._first, self._after)
        value, rest = hits / self.unit, self.total - self.seen
        expected = (self.total * self._means[left] - self.hits / self.unit) / rest
        np.clip(expected, _EDGE, 1 - _EDGE, out=expected)
        self._more[:, left] *= 1 + _FRACTIONS * (value / expected - 1)
        self._less[:, left] *= 1 + _FRACTIONS * ((1 - value) / (1 - expected) - 1)
        self.seen += 1
        self.hits += hits
        below = np.flatnonzero(self._more[:, left].sum(axis=0) >= self._limit)
        above = np.flatnonzero(self._less[:, left].sum(axis=0) >= self._limit)
        first = self._first + int(below[-1]) + 1 if len(below) else self._first
        after = self._first + int(above[0]) if len(above) else self._after
        if first <= after:
            self._first, self._after = first, after

    @property
    def low(self) -> float:
        """The least mean that is left; the greatest that is left out is not."""
        out = math.nextafter(float(self._means[self._first - 1]), 1.0) if self._first else 0.0
        return _between(out, *_known(self.hits, self.seen, self.total, self.unit))

    @property
    def high(self) -> float:
        """The greatest mean that is left; the least that is left out is not."""
        last = self._after < len(self._means)
        out = math.nextafter(float(self._means[self._after]), 0.0) if last else 1.0
        return _between(out, *_known(self.hits, self.seen, self.total, self.unit))


def _known(hits: int, seen: int, total: int, unit: int = 1) -> tuple[float, float]:
    """The least and the greatest mean that items not seen yet leave possible, whatever the order."""
    return hits / (total * unit), (hits + (total - seen) * unit) / (total * unit)


def _between(value: float, least: float, most: float) -> float:
    return min(max(value, least), most)


def _prior(about: float | None) -> tuple[float, float]:
    if about is None or not 0 < about < 1:
        return 0.5, 0.5
    return (1.0, (1 - about) / about) if about <= 0.5 else (about / (1 - about), 1.0)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _log_choose(of: int, some: int) -> float:
    return math.lgamma(of + 1) - math.lgamma(some + 1) - math.lgamma(of - some + 1)
