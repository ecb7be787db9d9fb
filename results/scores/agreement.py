"""How far the judges of a run agree."""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import Any

import numpy as np

from safemt_client.results.scores.labels import value_of
from safemt_client.results.stats.agreement import ALPHA, KAPPA, with_interval
from safemt_client.results.stats.intervals import Interval
from safemt_client.results.store.reader import Queryable

__all__ = ["agreement"]


def agreement(reader: Queryable, run_id: str) -> list[dict[str, Any]]:
    """Between the judges of a run: kappa of each pair and alpha of all, items resampled together.

    The last judge of a chain is left out: it sees only the replies that the others were unsure of.
    """
    rows = reader.query(
        """SELECT c.judge, c.target_key, c.dialogue_key, c.item_id, c.label FROM conversations c
           JOIN run_judges j ON j.run_id = c.run_id AND j.judge_key = c.judge_key AND j.role = 'member'
           JOIN deciding_judges d ON d.run_id = c.run_id
           WHERE c.run_id = ? AND NOT c.by_guard
             AND (d.panel IS DISTINCT FROM 'chain'
                  OR j.position < (SELECT max(position) FROM run_judges p WHERE p.run_id = c.run_id))
           ORDER BY c.target_key, c.dialogue_key, c.judge""",
        [run_id],
    ).rows
    judges = sorted({row[0] for row in rows})
    if len(judges) < 2:
        return []
    units: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    items: dict[tuple[str, str], str] = {}
    for judge, target, dialogue, item, label in rows:
        items[target, dialogue] = item
        units[target, dialogue][judge] = value_of(label)
    table = np.array([[unit.get(judge, np.nan) for judge in judges] for unit in units.values()])
    names = [items[key] for key in units]
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
