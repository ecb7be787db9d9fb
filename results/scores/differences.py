"""Differences between the targets of a run."""

from __future__ import annotations

import itertools
from typing import Any

from safemt_client.results.scores.labels import value_of
from safemt_client.results.stats.pairs import compared_pairs
from safemt_client.results.store.queries import Queryable

__all__ = ["differences"]


def differences(reader: Queryable, run_id: str) -> list[dict[str, Any]]:
    """Differences between each two targets by the deciding judge, on the replies that both have scored.

    `rows` are those of `pairs.compared_pairs`, corrected over all pairs of the run's targets.
    """
    sides: dict[tuple[str, str], dict[tuple[str, int, int], float]] = {}
    scenario_of: dict[str, str] = {}
    rows = reader.query(
        """SELECT judge, target, target_key, item_id, length, sample, coalesce(scenario, 'unknown'), label
           FROM conversations SEMI JOIN deciding_judges USING (run_id, judge_key)
           WHERE run_id = ? AND benign IS NOT TRUE AND moderator IS NULL
           ORDER BY target, target_key, item_id, length, sample""",
        [run_id],
    ).rows
    for _, target, target_key, item, length, sample, scenario, label in rows:
        sides.setdefault((target, target_key), {})[item, length, sample] = value_of(label)
        scenario_of[item] = scenario
    names = [target for target, _ in sides]
    # Those under moderators would be many more; where a moderator alone differs, see `effects`.
    pairs = list(itertools.combinations(range(len(sides)), 2))
    found = compared_pairs(list(sides.values()), pairs, scenario_of)
    return [
        {"judge": rows[0][0], "first": names[first], "second": names[second], "rows": compared}
        for (first, second), compared in zip(pairs, found, strict=True)
    ]
