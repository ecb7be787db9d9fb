"""A judge's errors, and attack success rates corrected for them, as people's labels of a sample show them.

A sample that was drawn by the judge's label shows two shares directly: how much of what the judge calls
unsafe people call unsafe too, and how much of what it calls safe. All else follows from them and from the
judge's own rate. Each of the two has one posterior: a beta distribution of the weighted share and of the
number of independent labels that it is worth, with Jeffreys' prior (half an unsafe and half a safe label)
added once. With a prior in each stratum, the prior would outweigh the labels where unsafe replies are rare.

An item recurs at every length and under every target, so its replies are not independent: they count as
fewer. And what raises one of the shares raises the others: more of a risky item's replies are called unsafe,
and more of either label are unsafe to people. Shares are drawn together, correlated as they are over the
items. Intervals are the shortest that hold 95 % of the posterior.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from safemt_client.results.stats.intervals import Interval, shortest
from safemt_client.results.stats.shares import wilson

__all__ = ["Counted", "NotEstimable", "Posterior", "clustered_share", "counted", "counted_by_item"]

Array = NDArray[np.float64]

_DRAWS = 10_000
_LEAST_YOUDEN = 0.1


@dataclass(frozen=True, slots=True)
class Counted:
    """A share, and how many independent observations it is `worth`: 0 where there are none.

    `parts` is what each item adds to the share's deviation: the sum of squares is the share's variance over
    items, that of products with the parts of another share their covariance. Shares without are independent.
    """

    share: float
    worth: float
    parts: Mapping[str, float] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class NotEstimable:
    """Why there is no estimate."""

    reason: str


class Posterior:
    """What people's labels say about a judge and about the rate that it gives.

    `rate` is the share of the replies that the judge calls unsafe; `called_unsafe` and `called_safe` are how
    much of what it calls so people call unsafe, among the labelled replies. `small` marks the intervals.
    """

    def __init__(
        self,
        rate: Counted,
        called_unsafe: Counted,
        called_safe: Counted,
        *,
        small: bool = False,
        seed: int = 0,
    ) -> None:
        self.rate, self.called_unsafe, self.called_safe = rate, called_unsafe, called_safe
        self._small = small
        self._seed = seed

    @property
    def missing(self) -> NotEstimable | None:
        """Which of the judge's labels occurs, but on no reply that people have labelled."""
        if not self.rate.worth:
            return NotEstimable("no reply is scored")
        for label, found, occurs in (
            ("unsafe", self.called_unsafe, self.rate.share > 0),
            ("safe", self.called_safe, self.rate.share < 1),
        ):
            if occurs and not found.worth:
                return NotEstimable(f"nobody labelled a reply that the judge calls {label}")
        return None

    def predictive(self) -> tuple[Interval | NotEstimable, Interval | NotEstimable]:
        """What people call unsafe: of what the judge calls unsafe, and of what it calls safe."""
        _, unsafe, safe = self._draws
        return (
            self._share(self.called_unsafe, unsafe, "unsafe"),
            self._share(self.called_safe, safe, "safe"),
        )

    def errors(self) -> tuple[Interval | NotEstimable, ...]:
        """The judge's sensitivity, specificity and agreement with people.

        The estimates are the medians of their posteriors. A judge that missed none of the few unsafe replies
        among the labelled ones has not been shown to miss none: the share alone would read 100 %.
        """
        for label, found in (("unsafe", self.called_unsafe), ("safe", self.called_safe)):
            if not found.worth:
                reason = NotEstimable(f"nobody labelled a reply that the judge calls {label}")
                return reason, reason, reason
        a, unsafe, safe = self._draws
        rate = a * unsafe + (1 - a) * safe
        with np.errstate(invalid="ignore", divide="ignore"):
            figures = (
                a * unsafe / rate,
                (1 - a) * (1 - safe) / (1 - rate),
                a * unsafe + (1 - a) * (1 - safe),
            )
        return tuple(self._interval(float(np.nanmedian(draws)), draws) for draws in figures)

    def corrected(self, judged: Counted | None = None) -> Interval | NotEstimable:
        """The share of all replies that people would call unsafe.

        `judged` is the share of the replies that the judge labelled, if a guard refused the others: those are
        safe, whatever the judge's errors.
        """
        if (missing := self.missing) is not None:
            return missing
        share = self.rate.share
        estimate = share * self.called_unsafe.share + (1 - share) * self.called_safe.share
        if judged is None or judged.share == 1:
            a, unsafe, safe = self._draws
            return self._interval(estimate, a * unsafe + (1 - a) * safe)
        a, unsafe, safe, kept = self._together(judged)
        return self._interval(estimate * judged.share, (a * unsafe + (1 - a) * safe) * kept)

    def at(self, rate: Counted, judged: Counted | None = None) -> Interval | NotEstimable:
        """The corrected rate of a part of the replies, such as those of one length, of which the judge calls
        `rate` unsafe, if its sensitivity and specificity are there what they are over all.

        How much of what it calls safe is unsafe is another matter: that depends on how many unsafe replies
        there are. Source of the formula: W. Rogan and B. Gladen, American Journal of Epidemiology 107 (1978),
        71-76; here each draw of the posterior gives one sensitivity and one specificity.
        """
        if not rate.worth:
            return NotEstimable("no reply is scored")
        if (missing := self.missing) is not None:
            return missing
        if not 0 < self.rate.share < 1:
            return NotEstimable(f"the judge calls {'every' if self.rate.share else 'no'} reply unsafe")
        share, alarms, misses = self.rate.share, 1 - self.called_unsafe.share, self.called_safe.share
        if not 0 < share * (1 - alarms) + (1 - share) * misses < 1:
            return NotEstimable(f"people call {'no' if alarms else 'every'} labelled reply unsafe")
        youden, fallout = (
            float(x) for x in _told_apart(np.array(share), np.array(1 - alarms), np.array(misses))
        )
        if youden < _LEAST_YOUDEN:
            return NotEstimable("the judge hardly tells unsafe replies from safe ones")
        estimate = min(1.0, max(0.0, (rate.share - fallout) / youden))
        a, unsafe, safe = self._draws
        source = np.random.default_rng((self._seed, 1))
        here = _drawn(source, rate)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            youdens, fallouts = _told_apart(a, unsafe, safe)
            draws = np.clip((here - fallouts) / youdens, 0.0, 1.0)
        # A judge that is no better than chance says nothing: any rate is as likely as another.
        draws = np.where((unsafe > safe) & ~np.isnan(draws), draws, source.random(_DRAWS))
        if judged is None or judged.share == 1:
            return self._interval(estimate, draws)
        kept = _drawn(np.random.default_rng((self._seed, 2)), judged)
        return self._interval(estimate * judged.share, draws * kept)

    @cached_property
    def _draws(self) -> list[Array]:
        return self._together()

    def _together(self, *more: Counted) -> list[Array]:
        shares = [self.rate, self.called_unsafe, self.called_safe, *more]
        return _drawn_together(np.random.default_rng((self._seed, 0)), shares)

    def _share(self, found: Counted, draws: Array, label: str) -> Interval | NotEstimable:
        if not found.worth:
            return NotEstimable(f"nobody labelled a reply that the judge calls {label}")
        return self._interval(found.share, draws)

    def _interval(self, estimate: float, draws: Array) -> Interval:
        low, high = shortest(draws[~np.isnan(draws)])
        return Interval(estimate, min(estimate, low), max(estimate, high), self._small)


def clustered_share(right: Array, weights: Array, items: Sequence[str]) -> tuple[Interval, float]:
    """A weighted share of replies with Wilson's interval, and how many independent replies it is worth."""
    if not len(right):
        return Interval(float("nan"), 0.0, 1.0, True), 0.0
    found = counted(right, items, weights)
    low, high = wilson(found.share * found.worth, found.worth)
    return Interval(found.share, low, high, found.worth < 10), found.worth


def counted(hits: Array, items: Sequence[str], weights: Array, alike: float = 0.0) -> Counted:
    """A weighted share of replies: `hits` is 1 or 0 for each, `items` its item.

    It is worth no more than weights so unequal allow (Kish), less what `alike` takes: by how much more the
    share varies among all the replies that these stand for, because an item's replies are alike, in parts of
    the variance of one reply.
    """
    if not len(hits):
        return Counted(0.0, 0.0)
    w = weights
    names, cluster = np.unique(np.asarray(items, dtype=str), return_inverse=True)
    most = 1 / (float((w**2).sum() / w.sum() ** 2) + alike)
    sums, sizes = (np.bincount(cluster, of).astype(np.float64) for of in (w * hits, w))
    return _counted(sums, sizes, names.tolist(), most, len(hits))


def counted_by_item(hits: Array, replies: Array, items: Sequence[str]) -> Counted:
    """A share of replies that all count alike, by item: how many hits among how many replies each has."""
    seen = replies > 0
    total = float(replies.sum())
    if not total:
        return Counted(0.0, 0.0)
    names = [item for item, some in zip(items, seen, strict=True) if some]
    return _counted(hits[seen], replies[seen], names, total, int(total))


def _counted(hits: Array, sizes: Array, items: Sequence[str], most: float, replies: int) -> Counted:
    """How many independent replies a share is worth, from the sums of the items' weights.

    That is the number of which a plain share would have the variance between items, with the correction for
    few of them. Source: E. Korn and B. Graubard, Survey Methodology 24 (1998), 193-201. Where nothing varies
    it is that of items whose replies are all alike, otherwise no less than that; and never more than `most`.
    """
    share = float(hits.sum() / sizes.sum())
    least = float(sizes.sum() ** 2 / (sizes**2).sum())
    count = len(sizes)
    parts = (hits - share * sizes) / sizes.sum()
    variance = float((parts**2).sum()) * count / max(count - 1, 1)
    worth = least
    if 0 < share < 1 and variance > 0 and count > 1:
        factor = (_quantile(replies) / _quantile(count)) ** 2
        worth = max(least, share * (1 - share) / variance * factor)
    return Counted(share, min(most, worth), dict(zip(items, parts.tolist(), strict=True)))


def _told_apart(rate: Array, unsafe: Array, safe: Array) -> tuple[Array, Array]:
    """Sensitivity + specificity - 1, and 1 - specificity, of a judge that calls so many replies unsafe."""
    true = rate * unsafe + (1 - rate) * safe
    fallout = rate * (1 - unsafe) / (1 - true)
    return rate * unsafe / true - fallout, fallout


def _drawn(source: np.random.Generator, found: Counted) -> Array:
    return source.beta(found.share * found.worth + 0.5, (1 - found.share) * found.worth + 0.5, _DRAWS)


def _drawn_together(source: np.random.Generator, shares: Sequence[Counted]) -> list[Array]:
    """Draws of each share's posterior, in an order in which they are correlated as their items' parts are.

    Sources: D. Binder, International Statistical Review 51 (1983), 279-292, for the covariance of weighted
    shares from what each item adds to them; R. Iman and W. Conover, Communications in Statistics - Simulation
    and Computation 11 (1982), 311-334, for drawing with a given correlation and the same distributions.
    """
    draws = [_drawn(source, share) for share in shares]
    alike = _correlation([share.parts for share in shares])
    if not (alike - np.eye(len(shares))).any():
        return draws
    values, vectors = np.linalg.eigh(alike)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    order = np.argsort(source.standard_normal((_DRAWS, len(shares))) @ root, axis=0)
    for place, one in enumerate(draws):
        one.sort()
        draws[place] = np.empty_like(one)
        draws[place][order[:, place]] = one
    return draws


def _correlation(parts: Sequence[Mapping[str, float]]) -> Array:
    """Of shares that items add these parts to; a share to which nothing was added is independent."""
    found = np.eye(len(parts))
    spread = [math.sqrt(sum(part * part for part in one.values())) for one in parts]
    for row, column in itertools.combinations(range(len(parts)), 2):
        one, other = parts[row], parts[column]
        if spread[row] and spread[column]:
            together = sum(other[item] * part for item, part in one.items() if item in other)
            found[row, column] = found[column, row] = together / (spread[row] * spread[column])
    return found


def _quantile(count: int) -> float:
    """Student's t for so many independent observations."""
    # scipy is slow to import: only where there is something to compute.
    from scipy import special

    return float(special.stdtrit(max(count - 1, 1), 0.975))
