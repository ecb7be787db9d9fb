"""Rates of many small groups, each drawn towards that of all as far as the groups are alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from safemt_client.results.stats.intervals import Interval
from safemt_client.results.stats.shares import SMALL_ITEMS

__all__ = ["extreme", "shrunk"]

Array = NDArray[np.float64]

_MEANS, _SPREADS, _DRAWS = 60, 40, 4000
_LEAST_SHARE = 0.1
_TIE = 0.0005


def shrunk(values: Array, groups: NDArray[np.intp], *, level: float = 0.95, seed: int = 0) -> list[Interval]:
    """The rate of each group by empirical Bayes: `values` are items' risks from 0 to 1, `groups` numbers.

    The largest of many noisy rates is too large, and its own interval does not cover. Given the
    distribution of the rates, which is learnt from all groups, an interval covers whichever group is looked
    at. The rates of groups follow a beta distribution, and their sums a binomial one of the effective
    number of items (items vary less than single replies). The beta distribution's mean and spread are not
    set to their most likely values but weighted by their likelihood, uniform in the mean and in (a +
    b)^-1/2, so that few groups do not look surer than they are. Sources: B. Efron and C. Morris, Journal of
    the American Statistical Association 70 (1975), 311-319; A. Gelman et al., "Bayesian Data Analysis" (3rd
    ed. 2013), section 5.3.
    """
    # scipy is slow to import: only where there is something to compute.
    from scipy.special import gammaln

    sizes = np.bincount(groups).astype(np.float64)
    means = np.bincount(groups, values) / sizes
    number = sizes / _spread_of_items(values, means[groups], len(sizes))
    hits = means * number
    misses = np.maximum(number - hits, 0.0)
    mean = (np.arange(_MEANS) + 0.5) / _MEANS
    total = ((np.arange(_SPREADS) + 0.5) / _SPREADS) ** -2.0
    a = (mean[:, None] * total).ravel()
    b = ((1 - mean)[:, None] * total).ravel()
    each = (
        gammaln(a[:, None] + hits)
        + gammaln(b[:, None] + misses)
        - gammaln((a + b)[:, None] + number)
        + (gammaln(a + b) - gammaln(a) - gammaln(b))[:, None]
    )
    fit = each.sum(axis=1)
    chance = np.exp(fit - fit.max())
    source = np.random.default_rng(seed)
    drawn = source.choice(len(a), _DRAWS, p=chance / chance.sum())
    rates = source.beta(a[drawn][:, None] + hits, b[drawn][:, None] + misses)
    low, high = np.quantile(rates, [(1 - level) / 2, (1 + level) / 2], axis=0)
    found = zip(rates.mean(axis=0), low, high, sizes, strict=True)
    return [Interval(float(at), float(lo), float(up), bool(n < SMALL_ITEMS)) for at, lo, up, n in found]


def extreme(rates: Sequence[Interval], *, highest: bool) -> int | None:
    """The place of the highest or lowest rate; None where two are the same to a tenth of a percent."""
    order = sorted(range(len(rates)), key=lambda place: rates[place].estimate, reverse=highest)
    if len(order) < 2 or abs(rates[order[0]].estimate - rates[order[1]].estimate) < _TIE:
        return None
    return order[0]


def _spread_of_items(values: Array, means: Array, groups: int) -> float:
    """The variance of items within their groups, as a share of that of single replies; at most 1."""
    single = float((means * (1 - means)).sum())
    if single <= 0 or len(values) <= groups:
        return 1.0
    within = float(((values - means) ** 2).sum()) * len(values) / (len(values) - groups)
    return min(1.0, max(_LEAST_SHARE, within / single))
