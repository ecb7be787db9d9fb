"""How alike the replies of a stored run are: what a plan over the same data can go by."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from safemt_client.results.scores.labels import matrix
from safemt_client.results.scores.power import ASSUMED, Spread
from safemt_client.results.stats.intervals import Array
from safemt_client.results.store.queries import Queryable

__all__ = ["spread_of"]

_FEWEST_ITEMS = 30
"""A run of fewer items says too little of how alike replies are."""


def spread_of(reader: Queryable, run_id: str) -> Spread:
    """What a run has shown of how alike replies are, under its deciding judge; the rest is assumed."""
    labels = _labels(reader, run_id)
    rho = [found for table in labels.values() if (found := _alike(table)) is not None]
    apart = [
        found for pair in itertools.combinations(labels.values(), 2) if (found := _apart(*pair)) is not None
    ]
    known = (("rho",) if rho else ()) + (("apart",) if apart else ())
    if not known:
        return ASSUMED
    return Spread(
        (_middle(rho),) * 2 if rho else ASSUMED.rho,
        (_middle(apart),) * 2 if apart else ASSUMED.apart,
        run_id,
        known,
    )


def _labels(reader: Queryable, run_id: str) -> Mapping[str, Array]:
    """Items x lengths of the first sample of each target without a moderator, each in the same order."""
    rows = reader.query(
        """SELECT target_key, item_id, length, label FROM conversations
           SEMI JOIN deciding_judges USING (run_id, judge_key)
           WHERE run_id = ? AND benign IS NOT TRUE AND moderator IS NULL AND sample = 1
           ORDER BY target_key, item_id, length""",
        [run_id],
    ).rows
    lengths = sorted({row[2] for row in rows})
    return {
        key: matrix([row[1:] for row in some], lengths)
        for key, some in itertools.groupby(rows, key=lambda row: row[0])
    }


def _alike(labels: Array) -> float | None:
    """The correlation within items that gives the variance seen between the items' rates.

    Over the items that are scored at every length. The lengths' own differences are part of the plan, not of
    chance, and make this smaller than a correlation of single replies. None with too few items, one length,
    or where all labels are the same.
    """
    whole = labels[~np.isnan(labels).any(axis=1)]
    items, lengths = whole.shape
    rate = float(whole.mean()) if whole.size else 0.0
    if items < _FEWEST_ITEMS or lengths < 2 or rate in (0.0, 1.0):
        return None
    design = lengths * float(whole.mean(axis=1).var(ddof=1)) / (rate * (1 - rate))
    return float(min(1.0, max(0.0, (design - 1) / (lengths - 1))))


def _apart(first: Array, second: Array) -> float | None:
    """The share of replies that differ beside the difference of the two, averaged over the lengths."""
    if first.shape != second.shape:
        return None
    both = ~np.isnan(first) & ~np.isnan(second)
    if np.count_nonzero(both.any(axis=1)) < _FEWEST_ITEMS:
        return None
    only_first = ((first == 1) & (second == 0)).sum(axis=0)
    only_second = ((first == 0) & (second == 1)).sum(axis=0)
    return float(2 * np.minimum(only_first, only_second).sum() / both.sum())


def _middle(values: Sequence[float]) -> float:
    return float(np.median(values))
