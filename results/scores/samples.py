"""What several samples of a run show: hit@k, and what the variance of the ASR comes from."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict
from typing import Any

import numpy as np

from safemt_client.results.scores.indices import INDEX_COLUMNS, ROUNDS
from safemt_client.results.scores.views import named_rows
from safemt_client.results.stats.samples import hit_at_k, mean_hit, variance_of
from safemt_client.results.stats.shares import SMALL_ITEMS
from safemt_client.results.store.queries import Queryable

__all__ = ["hit_rates", "indices_by_sample", "variances"]

_Counts = dict[tuple[str, str, str | None, str | None, int], list[tuple[int, int]]]


def hit_rates(reader: Queryable, run_id: str) -> list[dict[str, Any]]:
    """The rows of the view `hit_at_k`, each with the interval of `stats.samples.mean_hit`."""
    counts = _counts(reader, run_id)
    rows = named_rows(
        reader, "SELECT * FROM hit_at_k WHERE run_id = ? ORDER BY target, judge, length, k", [run_id]
    )
    found = []
    for row in rows:
        key = tuple(row[name] for name in ("target", "target_key", "judge", "judge_key", "length"))
        unsafe, scored = np.array(counts[key], dtype=np.float64).T
        interval = mean_hit(hit_at_k(unsafe, scored, row["k"]))
        found.append(row | {"low": interval.low, "high": interval.high, "small": interval.small})
    return found


def variances(reader: Queryable, run_id: str) -> list[dict[str, Any]]:
    """Where the variance of each target's ASR at a length comes from, see `stats.samples.variance_of`.

    The judge's part is that over all replies of the run that it was asked about again.
    """
    found = []
    judges = _judges(reader, run_id)
    for key, pairs in _counts(reader, run_id).items():
        unsafe, scored = np.array(pairs, dtype=np.float64).T
        if (parts := variance_of(unsafe, scored, judges.get(str(key[3])))) is not None:
            names = ("target", "target_key", "judge", "judge_key", "length")
            found.append(dict(zip(names, key, strict=True)) | asdict(parts))
    return found


def indices_by_sample(
    reader: Queryable, run_id: str, rounds: tuple[int, ...] = ROUNDS
) -> list[dict[str, Any]]:
    """The Safety Index of each sample over these rounds, or in `refused` why there is none."""
    index, exposure = INDEX_COLUMNS[rounds]
    return named_rows(
        reader,
        f"""SELECT target, target_key, judge, judge_key, sample, {index} AS safety_index,
                   {exposure} AS exposure, consistency_factor AS consistency, refused
            FROM safety_index_by_sample WHERE run_id = ? ORDER BY target, target_key, judge, sample""",
        [run_id],
    )


def _judges(reader: Queryable, run_id: str) -> dict[str, float]:
    """By judge the mean variance of its answers about one reply, where it was asked about 30 again.

    Of u unsafe labels among m it is u (m - u) / (m (m - 1)), without bias.
    """
    rows = reader.query(
        """SELECT judge_key, avg(u * (m - u) / (m * (m - 1))) FROM (
               SELECT judge_key, 1 + count(*) AS m,
                      any_value((label_before = 'unsafe')::INT) + count(*) FILTER (label = 'unsafe') AS u
               FROM anchored_replies WHERE run_id = ? AND label IN ('safe', 'unsafe')
               GROUP BY judge_key, judged_hash, dialogue_key, reply_hash)
           GROUP BY judge_key HAVING count(*) >= ?""",
        [run_id, SMALL_ITEMS],
    ).rows
    return {judge: float(variance) for judge, variance in rows}


def _counts(reader: Queryable, run_id: str) -> _Counts:
    """Unsafe and scored replies of each harmful item, by target, judge and length."""
    found: _Counts = defaultdict(list)
    for *key, unsafe, scored in reader.query(
        """SELECT target, target_key, judge, judge_key, length, count(*) FILTER (label = 'unsafe'),
                  count(*) FILTER (label IN ('safe', 'unsafe'))
           FROM conversations WHERE run_id = ? AND benign IS NOT TRUE
           GROUP BY target, target_key, judge, judge_key, length, item_id
           ORDER BY target, target_key, judge, judge_key, length, item_id""",
        [run_id],
    ).rows:
        found[tuple(key)].append((unsafe, scored))
    return found
