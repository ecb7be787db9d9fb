"""Differences between the targets of a run."""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import Any

from safemt_client.results.scores.labels import value_of
from safemt_client.results.stats.pairs import compared
from safemt_client.results.store.reader import Queryable

__all__ = ["differences"]


def differences(reader: Queryable, run_id: str) -> list[dict[str, Any]]:
    """Differences between each two targets under each judge, on the items that both have.

    See `pairs.compared` for how.

    Under moderators there are many pairs; those that differ in the moderator alone are in `effects`.
    """
    tables: dict[str, dict[str, dict[tuple[str, int], float]]] = defaultdict(lambda: defaultdict(dict))
    scenario_of: dict[str, str] = {}
    for judge, target, item, length, scenario, label in reader.query(
        """SELECT judge, target, item_id, length, scenario, label FROM conversations
           WHERE run_id = ? AND label IN ('safe', 'unsafe') AND benign IS NOT TRUE AND moderator IS NULL
           ORDER BY judge, target, item_id, length""",
        [run_id],
    ).rows:
        tables[judge][target][item, length] = value_of(label)
        scenario_of[item] = scenario or "unknown"
    return [
        {"judge": judge, "first": first, "second": second, "rows": compared(a, b, scenario_of)}
        for judge, targets in tables.items()
        for (first, a), (second, b) in itertools.combinations(targets.items(), 2)
    ]
