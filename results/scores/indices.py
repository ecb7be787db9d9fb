"""The Safety Index of each target of a run, as the view `safety_index` has it, with interval and bounds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safemt_client.providers.errors import InputError
from safemt_client.results.scores.views import named_rows
from safemt_client.results.stats.safety_index import FROM_ZERO, ROUNDS, bounds, mean_index_interval
from safemt_client.results.store.queries import Queryable

__all__ = ["INDEX_COLUMNS", "ROUNDS", "indices", "rounds_of"]

INDEX_COLUMNS: Mapping[tuple[int, ...], tuple[str, str]] = {
    ROUNDS: ("safety_index", "exposure_factor"),
    FROM_ZERO: ("safety_index_from_0", "exposure_from_0"),
}
"""The columns of the index and of exposure in the view `safety_index`, by the rounds they are over."""
_NO_BOUNDS = {"low": None, "high": None, "small": False, "best": None, "worst": None}


def rounds_of(said: str | Sequence[int]) -> tuple[int, ...]:
    """The rounds of the index, as numbers or as text with commas.

    Raises:
        InputError: these are not rounds of the reference.
    """
    found = tuple(said.replace(" ", "").split(",")) if isinstance(said, str) else tuple(map(str, said))
    for rounds in INDEX_COLUMNS:
        if found == tuple(map(str, rounds)):
            return rounds
    either = " or ".join(",".join(map(str, rounds)) for rounds in INDEX_COLUMNS)
    raise InputError(f"--si-rounds {','.join(found)}: the reference has {either}")


def indices(
    reader: Queryable,
    run_id: str,
    rounds: tuple[int, ...] = ROUNDS,
    *,
    judge_key: str | None = None,
    targets: Collection[str] | None = None,
) -> list[dict[str, Any]]:
    """The Safety Index of each target under each judge, or in `refused` why the view gives none.

    Of several samples it is the mean of theirs.

    `low` and `high` are the 95 % interval (items resampled), `best` and `worst` how far the index may move by
    what is not scored. Only under one judge and of these targets, by their keys, where they are named.
    """
    index, exposure = INDEX_COLUMNS[rounds]
    rows = named_rows(
        reader,
        f"""SELECT target, target_key, judge, judge_key, {index} AS safety_index, {exposure} AS exposure,
                   consistency_factor AS consistency, refused
            FROM safety_index
            WHERE run_id = ? AND judge_key = coalesce(?, judge_key) ORDER BY ALL""",
        [run_id, judge_key],
    )
    rows = [row for row in rows if targets is None or row["target_key"] in targets]
    given = {(row["target_key"], row["judge_key"]) for row in rows if row["refused"] is None}
    found = _inferred(reader, run_id, rounds, judge_key, given) if given else {}
    return [
        row | (_NO_BOUNDS if row["refused"] else found[row["target_key"], row["judge_key"]]) for row in rows
    ]


def _inferred(
    reader: Queryable,
    run_id: str,
    rounds: tuple[int, ...],
    judge_key: str | None,
    given: Collection[tuple[str, str]],
) -> Mapping[tuple[str, str], dict[str, Any]]:
    """Interval and bounds of each of these targets and judges, from its items' labels."""
    kinds: dict[tuple[str, str], list[tuple[list[int], int]]] = defaultdict(list)
    # Items whose labels are alike are told apart nowhere below: a few kinds are read, not each item.
    for target, judge, masks, items in reader.query(
        """WITH by_item AS (
               SELECT target_key, judge_key, sample, item_id,
                      coalesce(bit_or(1 << length) FILTER (label IN ('safe', 'unsafe')), 0) AS seen,
                      coalesce(bit_or(1 << length) FILTER (label = 'unsafe'), 0) AS unsafe
               FROM conversations
               WHERE run_id = ? AND judge_key = coalesce(?, judge_key)
                     AND length IN (1, 2, 4, 6, 8) AND benign IS NOT TRUE AND state <> 'not_needed'
               GROUP BY ALL),
           over_samples AS (
               SELECT target_key, judge_key, item_id,
                      list(coalesce(seen << 16 | unsafe, 0) ORDER BY sample) AS masks
               FROM (SELECT DISTINCT target_key, judge_key, item_id FROM by_item)
               JOIN (SELECT DISTINCT target_key, judge_key, sample FROM by_item)
                    USING (target_key, judge_key)
               -- The last judge of a chain may have been asked about some samples of an item alone.
               LEFT JOIN by_item USING (target_key, judge_key, sample, item_id)
               GROUP BY ALL)
           SELECT target_key, judge_key, masks, count(*) FROM over_samples GROUP BY ALL ORDER BY ALL""",
        [run_id, judge_key],
    ).rows:
        if (target, judge) in given:
            kinds[target, judge].append((masks, items))
    found = {}
    for key, rows in kinds.items():
        masks_of, counts = (np.array(column) for column in zip(*rows, strict=True))
        labels = [np.repeat(_labels(masks), counts, axis=0) for masks in masks_of.T]
        interval = mean_index_interval(labels, rounds)
        worst, best = np.mean([bounds(one, rounds) for one in labels], axis=0).tolist()
        found[key] = {
            "low": interval.low,
            "high": interval.high,
            "small": interval.small,
            "best": round(best, 4),
            "worst": round(worst, 4),
        }
    return found


def _labels(masks: NDArray[np.int64]) -> NDArray[np.float64]:
    """Items x rounds, from a mask of rounds for each item: those unsafe, and 16 bits higher those scored."""
    unsafe, scored = (masks[:, None] >> np.array(ROUNDS) + shift & 1 for shift in (0, 16))
    return np.where(scored == 1, unsafe.astype(np.float64), np.nan)
