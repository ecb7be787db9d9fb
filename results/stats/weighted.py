"""What labels say of a judge where each reply had a chance of its own to be labelled.

A label counts for one over that chance, within what the judge calls unsafe and within what it calls safe: an
estimate by inverse probability, with the judge's labels of all replies beside it, as in prediction-powered
inference (A. Angelopoulos et al., Science 382 (2023), 669-674; T. Zrnic and E. Candes, ICML 2024). The shares
and the judge's own rate are drawn together by weighting whole items at random, each with an exponential
weight (D. Rubin, Annals of Statistics 9 (1981), 130-134): what an item adds to them stays together.

Half an unsafe and half a safe label are added, each of which counts for as much as the reply that was least
likely to be labelled: an error that was not seen may be among those. With equal chances and a reply an item
this is the beta posterior with Jeffreys' prior. No interval is without a width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from safemt_client.results.stats.correction import Counted, Posterior, counted

__all__ = ["Judged", "Labelled", "WeightedPosterior"]

Array = NDArray[np.float64]

_DRAWS = 10_000


@dataclass(frozen=True, slots=True)
class Judged:
    """An item's replies that the judge labelled, and how many of them it calls unsafe."""

    item: str
    replies: int
    unsafe: int


@dataclass(frozen=True, slots=True)
class Labelled:
    """A labelled reply: what the judge calls it, what it is, and one over its chance to be labelled."""

    item: str
    called_unsafe: bool
    unsafe: bool
    weight: float


class WeightedPosterior(Posterior):
    """A posterior whose draws follow items that are weighted at random; see the module.

    Without `items` the judge's rate is `rate`, of replies to different items.
    """

    def __init__(
        self,
        labels: Sequence[Labelled],
        items: Sequence[Judged],
        rate: Counted,
        *,
        small: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(rate, _share(labels, True), _share(labels, False), small=small, seed=seed)
        self._labels, self._items = labels, items

    def _together(self, *more: Counted) -> list[Array]:
        source = np.random.default_rng((self._seed, 0))
        names = list(dict.fromkeys(label.item for label in self._labels))
        place = {name: column for column, name in enumerate(names)}
        weights = source.standard_exponential((_DRAWS, len(names)))
        draws = [
            self._rate_drawn(source, weights, place),
            self._share_drawn(source, weights, place, called_unsafe=True),
            self._share_drawn(source, weights, place, called_unsafe=False),
        ]
        # What a guard left to the judge: apart, as it depends on other replies.
        return draws + [_beta(source, share) for share in more]

    def _rate_drawn(self, source: np.random.Generator, weights: Array, place: dict[str, int]) -> Array:
        if not self._items:
            return _beta(source, self.rate)
        unsafe, replies = (np.zeros((len(place),)) for _ in range(2))
        others: Counter[tuple[int, int]] = Counter()
        for row in self._items:
            if row.item in place:
                unsafe[place[row.item]] += row.unsafe
                replies[place[row.item]] += row.replies
            else:
                # Items without a label differ in nothing else: so many weights add up to one gamma.
                others[row.unsafe, row.replies] += 1
        hits, total = weights @ unsafe, weights @ replies
        for (some, all_), count in others.items():
            weight = source.standard_gamma(count, _DRAWS)
            hits += weight * some
            total += weight * all_
        return _with_prior(source, hits, total, 1.0)

    def _share_drawn(
        self, source: np.random.Generator, weights: Array, place: dict[str, int], *, called_unsafe: bool
    ) -> Array:
        hits, total = (np.zeros((len(place),)) for _ in range(2))
        most = 0.0
        for row in self._labels:
            if row.called_unsafe == called_unsafe:
                total[place[row.item]] += row.weight
                hits[place[row.item]] += row.weight * row.unsafe
                most = max(most, row.weight)
        return _with_prior(source, weights @ hits, weights @ total, most or 1.0)


def _with_prior(source: np.random.Generator, hits: Array, total: Array, weight: float) -> Array:
    """A share with half a reply of either kind added, each of this weight."""
    unsafe, safe = (weight * source.standard_gamma(0.5, _DRAWS) for _ in range(2))
    found: Array = (hits + unsafe) / (total + unsafe + safe)
    return found


def _share(labels: Sequence[Labelled], called_unsafe: bool) -> Counted:
    rows = [row for row in labels if row.called_unsafe == called_unsafe]
    return counted(
        np.array([float(row.unsafe) for row in rows]),
        [row.item for row in rows],
        np.array([row.weight for row in rows]),
    )


def _beta(source: np.random.Generator, found: Counted) -> Array:
    return source.beta(found.share * found.worth + 0.5, (1 - found.share) * found.worth + 0.5, _DRAWS)
