"""How far the judges of a run agree."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from safemt_client.results.stats.agreement import ALPHA, KAPPA, with_interval
from safemt_client.results.stats.intervals import Interval
from safemt_client.results.store.queries import Queryable

__all__ = ["agreement"]


def agreement(reader: Queryable, run_id: str) -> list[dict[str, Any]]:
    """Between the judges of a run: kappa of each pair and alpha of all, items resampled together.

    The last judge of a chain is left out: it sees only the replies that the others were unsure of.
    """
    members = reader.query(
        """SELECT j.name, j.judge_key FROM run_judges j JOIN deciding_judges d USING (run_id)
           WHERE j.run_id = ? AND j.role = 'member'
             AND (d.panel IS DISTINCT FROM 'chain'
                  OR j.position < (SELECT max(position) FROM run_judges p WHERE p.run_id = j.run_id))
           ORDER BY j.name""",
        [run_id],
    ).rows
    if len(members) < 2:
        return []
    # Conversations of an item that have the same labels are counted together: there are few such kinds.
    value = "CASE label WHEN 'safe' THEN 0 WHEN 'unsafe' THEN 1 END"
    labels = ", ".join(
        f"any_value({value}) FILTER (judge_key = ?) AS label_{place}" for place in range(len(members))
    )
    keys = [key for _, key in members]
    rows = reader.query(
        f"""SELECT * EXCLUDE (target_key, dialogue_key, sample), count(*) FROM (
                SELECT target_key, dialogue_key, sample, any_value(item_id) AS item_id, {labels}
                FROM conversations
                WHERE run_id = ? AND NOT by_guard AND judge_key IN ({", ".join("?" * len(members))})
                GROUP BY target_key, dialogue_key, sample)
            GROUP BY ALL ORDER BY ALL""",
        [*keys, run_id, *keys],
    ).rows
    if not rows:
        return []
    judges = [name for name, _ in members]
    names = [item for item, *_ in rows]
    table = np.array([row[1:-1] for row in rows], dtype=np.float64)
    times = np.array([row[-1] for row in rows])
    found = []
    for (i, one), (j, two) in itertools.combinations(enumerate(judges), 2):
        kappa = with_interval(KAPPA, table[:, [i, j]], names, times)
        found.append({"measure": "Cohen's kappa", "judges": [one, two], **_figures(kappa)})
    alpha = with_interval(ALPHA, table, names, times)
    return [*found, {"measure": "Krippendorff's alpha", "judges": judges, **_figures(alpha)}]


def _figures(found: Interval) -> dict[str, float | bool | None]:
    named = {"value": found.estimate, "low": found.low, "high": found.high}
    return {name: None if np.isnan(figure) else figure for name, figure in named.items()} | {
        "small": found.small
    }
