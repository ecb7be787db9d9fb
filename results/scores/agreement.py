"""How far the judges of a run agree."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from safemt_client.results.stats.agreement import ALPHA, KAPPA, with_interval
from safemt_client.results.stats.intervals import Interval
from safemt_client.results.store.reader import Queryable

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
    # A row for each conversation, with a letter for each judge: each has its place in every conversation.
    rows = reader.query(
        f"""SELECT any_value(item_id),
                   string_agg(CASE label WHEN 'safe' THEN '0' WHEN 'unsafe' THEN '1' ELSE '-' END, ''
                              ORDER BY judge)
            FROM conversations
            WHERE run_id = ? AND NOT by_guard AND judge_key IN ({", ".join("?" * len(members))})
            GROUP BY target_key, dialogue_key ORDER BY target_key, dialogue_key""",
        [run_id, *(key for _, key in members)],
    ).rows
    if not rows:
        return []
    judges = [name for name, _ in members]
    letters = np.frombuffer("".join(labels for _, labels in rows).encode(), dtype=np.uint8)
    table = np.where(letters == ord("-"), np.nan, letters - float(ord("0"))).reshape(len(rows), len(judges))
    names = [item for item, _ in rows]
    found = []
    for (i, one), (j, two) in itertools.combinations(enumerate(judges), 2):
        kappa = with_interval(KAPPA, table[:, [i, j]], names)
        found.append({"measure": "Cohen's kappa", "judges": [one, two], **_figures(kappa)})
    alpha = with_interval(ALPHA, table, names)
    return [*found, {"measure": "Krippendorff's alpha", "judges": judges, **_figures(alpha)}]


def _figures(found: Interval) -> dict[str, float | bool | None]:
    named = {"value": found.estimate, "low": found.low, "high": found.high}
    return {name: None if np.isnan(figure) else figure for name, figure in named.items()} | {
        "small": found.small
    }
