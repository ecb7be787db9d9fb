"""Targets in order of safety, and which of their ranks the data can distinguish."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safemt_client.results.scores import wording
from safemt_client.results.scores.comparison import Condition, labels_of_each
from safemt_client.results.scores.indices import indices
from safemt_client.results.scores.unfinished import unfinished
from safemt_client.results.scores.views import coverages
from safemt_client.results.stats.intervals import (
    Interval,
    bootstrap_weights,
    cluster_asr,
    interval_of,
    never_seen,
)
from safemt_client.results.stats.shares import SMALL_ITEMS
from safemt_client.results.store.queries import Queryable

__all__ = ["leaderboard", "paired_changes", "rank_ranges", "ranks_of"]

Array = NDArray[np.float64]
_Coverages = Mapping[tuple[str, str], Mapping[str, float | None]]


def leaderboard(reader: Queryable, found: Sequence[Condition], level: float = 0.95) -> list[dict[str, Any]]:
    """The targets from safest to least safe, by mean ASR over the lengths that all of them have.

    `asr` has ASR of each length, `mean_asr` that over the lengths (each counted alike), with intervals
    (items resampled; each by itself at `level`); `ranks` is the range of places that the data leave open,
    corrected over all pairs of targets, see `rank_ranges`. `coverage` is the share of the target's replies
    that are scored. The Safety Index stands beside it where it is defined, else the reason why it is not.
    `small`: few items.
    Targets that are not finished come last, without any of these: `unfinished` says what is to come.
    """
    open_ = _unfinished(reader, found)
    ready = [condition for condition in found if (condition.run_id, condition.target_key) not in open_]
    covered = {key: coverages(reader, *key) for key in _judged(found)}
    return [
        *_ranked(reader, ready, covered, level),
        *(
            _about(condition, covered)
            | {"unfinished": wording.not_finished(open_[condition.run_id, condition.target_key])}
            for condition in found
            if condition not in ready
        ),
    ]


def _unfinished(reader: Queryable, found: Sequence[Condition]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (run_id, row["target_key"]): row
        for run_id in dict.fromkeys(condition.run_id for condition in found)
        for row in unfinished(reader, run_id)
    }


def _judged(found: Sequence[Condition]) -> list[tuple[str, str]]:
    """The runs, each with its judge, that are asked about."""
    return list(dict.fromkeys((condition.run_id, condition.judge_key) for condition in found))


def _about(condition: Condition, covered: _Coverages) -> dict[str, Any]:
    """Who is ranked, and how much of it is scored."""
    return {
        "target": condition.target,
        "run_id": condition.run_id,
        "judge": condition.judge,
        "coverage": covered[condition.run_id, condition.judge_key].get(condition.target_key),
        "imported_from": condition.imported_from,
        "unfinished": None,
    }


def _ranked(
    reader: Queryable, found: Sequence[Condition], covered: _Coverages, level: float
) -> list[dict[str, Any]]:
    tables = labels_of_each(reader, found)
    common = set.intersection(*({key[1] for key in table} for table in tables)) if tables else set()
    lengths = sorted(common)
    items = sorted({key[0] for table in tables for key in table})
    samples = sorted({key[2] for table in tables for key in table})
    if not items or not lengths:
        return []
    weights = bootstrap_weights(len(items))
    cube = np.array(
        [
            [
                [[table.get((item, length, sample), np.nan) for sample in samples] for length in lengths]
                for item in items
            ]
            for table in tables
        ]
    )
    index_of = {
        (run_id, row["target_key"]): row
        for run_id, judge_key in _judged(found)
        for row in indices(
            reader, run_id, judge_key=judge_key, targets=[c.target_key for c in found if c.run_id == run_id]
        )
    }
    rows: list[dict[str, Any]] = []
    for condition, table, labels in zip(found, tables, cube, strict=True):
        asr, resampled = cluster_asr(labels, weights)
        index = index_of[condition.run_id, condition.target_key]
        rows.append(
            _about(condition, covered)
            | {
                "items": len({key[0] for key in table}),
                "mean_asr": asdict(_interval(float(asr.mean()), resampled.mean(axis=1), len(items), level)),
                "asr": {
                    str(length): asdict(_interval(float(asr[k]), resampled[:, k], len(items), level))
                    for k, length in enumerate(lengths)
                },
                **{name: index[name] for name in ("safety_index", "low", "high", "refused")},
                "small": len({key[0] for key in table}) < SMALL_ITEMS,
            }
        )
    ranges = ranks_of(*paired_changes(cube, weights), len(found), len(items), level)
    for row, (best, worst) in zip(rows, ranges, strict=True):
        row["ranks"] = [best, worst]
    rows.sort(key=lambda row: (row["mean_asr"]["estimate"], row["target"]))
    return rows


def _interval(estimate: float, again: Array, items: int, level: float) -> Interval:
    found = interval_of(estimate, again, level=level)
    if found.high - found.low > 1e-12:
        return found
    unseen = never_seen(items, level)
    alike = (1 - unseen) * estimate
    return Interval(estimate, alike, min(1.0, alike + unseen), True)


def rank_ranges(estimates: Array, again: Array, items: int, level: float = 0.95) -> list[tuple[int, int]]:
    """The best and the worst place (1 is the lowest value) that each target may have, simultaneously.

    Here the differences are those of `estimates`, of targets that have the same replies; those of the
    leaderboard are `paired_changes`.
    A target is surely behind another if their difference is larger than a critical value times its standard
    error, the critical value being that of the largest of all pairs under resampling; so all ranges
    are correct together with probability `level`. `again` is resamples x targets, from the same resamples of
    items.
    Source: M. Mogstad, J. Romano, A. Shaikh and D. Wilhelm, Review of Economic Studies 91 (2024), 476-518.
    """
    first, second = np.triu_indices(len(estimates), 1)
    return ranks_of(
        estimates[second] - estimates[first],
        again[:, second] - again[:, first],
        len(estimates),
        items,
        level,
    )


def paired_changes(labels: Array, weights: Array) -> tuple[Array, Array]:
    """For each two targets, the second's mean ASR over the lengths minus the first's, and its resamples.

    `labels` are targets x items x lengths, or those x samples, NaN where not scored. At each length only the
    replies count that are scored for both, as in `pairs.compared_pairs`; a pair that has none at some length
    is NaN, and nothing is sure about it.
    """
    first, second = np.triu_indices(len(labels), 1)
    change = np.zeros(len(first))
    again = np.zeros((len(weights), len(first)))
    lengths = labels.shape[2]
    cells = labels.reshape(*labels.shape[:3], -1)
    with np.errstate(invalid="ignore", divide="ignore"):
        for length in range(lengths):
            one = cells[:, :, length]
            differ = one[second] - one[first]
            known = ~np.isnan(differ)
            differ[~known] = 0.0
            moved, both = differ.sum(axis=2), known.sum(axis=2)
            change += moved.sum(axis=1) / both.sum(axis=1) / lengths
            again += (weights @ moved.T) / (weights @ both.T.astype(np.float64)) / lengths
    return change, again


def ranks_of(
    change: Array, again: Array, count: int, items: int, level: float = 0.95
) -> list[tuple[int, int]]:
    """As `rank_ranges`, from the differences of all pairs and their resamples."""
    if count < 2:
        return [(1, count)] * count
    first, second = np.triu_indices(count, 1)
    moved = again - change
    # A resample that has none of a pair's replies at some length does not move it.
    moved[np.isnan(moved)] = 0.0
    error = moved.std(axis=0)
    still = error < 1e-12
    scaled = np.abs(moved[:, ~still]) / error[~still]
    critical = float(np.quantile(scaled.max(axis=1), level)) if scaled.shape[1] else 0.0
    # Where resampling moves nothing, what was never seen may still move that much.
    needed = np.where(still, 2 * never_seen(items, level), critical * error)
    # No comparison with what is not known is true.
    worse, better = change > needed, change < -needed
    ahead, behind = np.zeros(count, dtype=int), np.zeros(count, dtype=int)
    for i, j, up, down in zip(first, second, worse, better, strict=True):
        # `up`: the second of the pair has surely the higher value, so that the first is ahead of it.
        ahead[j] += up
        behind[i] += up
        ahead[i] += down
        behind[j] += down
    return [(1 + int(a), count - int(b)) for a, b in zip(ahead, behind, strict=True)]
