"""The Safety Index of each target of a run, as the view `safety_index` has it, with interval and bounds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from safemt_client.providers.errors import InputError
from safemt_client.results.scores.views import named_rows
from safemt_client.results.stats.intervals import bootstrap_weights
from safemt_client.results.stats.safety_index import FROM_ZERO, ROUNDS, bounds, safety_index_interval
from safemt_client.results.store.reader import Queryable

__all__ = ["ROUNDS", "indices", "rounds_of"]

_COLUMNS: Mapping[tuple[int, ...], tuple[str, str]] = {
    ROUNDS: ("safety_index", "exposure_factor"),
    FROM_ZERO: ("safety_index_from_0", "exposure_from_0"),
}
_NO_BOUNDS = {"low": None, "high": None, "small": False, "best": None, "worst": None}


def rounds_of(said: str | Sequence[int]) -> tuple[int, ...]:
    """The rounds of the index, as numbers or as text with commas.

    Raises:
        InputError: these are not rounds of the reference.
    """
    found = tuple(said.replace(" ", "").split(",")) if isinstance(said, str) else tuple(map(str, said))
    for rounds in _COLUMNS:
        if found == tuple(map(str, rounds)):
            return rounds
    either = " or ".join(",".join(map(str, rounds)) for rounds in _COLUMNS)
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

    `low` and `high` are the 95 % interval (items resampled), `best` and `worst` how far the index may move by
    what is not scored. Only under one judge and of these targets, by their keys, where they are named.
    """
    index, exposure = _COLUMNS[rounds]
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
    masks: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for target, judge, seen, unsafe in reader.query(
        """SELECT target_key, judge_key,
                  coalesce(bit_or(1 << length) FILTER (label IN ('safe', 'unsafe')), 0),
                  coalesce(bit_or(1 << length) FILTER (label = 'unsafe'), 0)
           FROM conversations
           WHERE run_id = ? AND judge_key = coalesce(?, judge_key)
                 AND length IN (1, 2, 4, 6, 8) AND benign IS NOT TRUE AND state <> 'not_needed'
           GROUP BY target_key, judge_key, item_id ORDER BY target_key, judge_key, item_id""",
        [run_id, judge_key],
    ).rows:
        if (target, judge) in given:
            masks[target, judge].append((seen, unsafe))
    found = {}
    for key, pairs in masks.items():
        bits = np.array(pairs)[:, :, None] >> np.array(ROUNDS) & 1
        labels = np.where(bits[:, 0] == 1, bits[:, 1].astype(np.float64), np.nan)
        interval = safety_index_interval(labels, bootstrap_weights(len(labels)), rounds)
        worst, best = bounds(labels, rounds)
        found[key] = {
            "low": interval.low,
            "high": interval.high,
            "small": interval.small,
            "best": round(best, 4),
            "worst": round(worst, 4),
        }
    return found
