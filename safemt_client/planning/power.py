"""What the items of a plan can show, by how alike replies were in earlier runs over the same data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from safemt_client.planning.plan import Plan
from safemt_client.results.scores.power import ASSUMED, Power, Spread, power_of

if TYPE_CHECKING:
    from safemt_client.results.store.store import Store

__all__ = ["power_of_plan"]


def power_of_plan(plan: Plan, store: Store | None) -> Power | None:
    """What the harmful dialogues of a plan can show, controls left out; None if there are none.

    Where items have not all the same lengths, as many items as there are dialogues for each length.
    """
    asked = [
        row
        for row in plan.dialogues
        if not row.benign and row.condition is None and row.dialogue_key not in plan.not_attempted
    ]
    if not asked:
        return None
    lengths = len({row.length for row in asked})
    items = max(1, len(asked) // lengths)
    return power_of(items, lengths, ASSUMED if store is None else _shown(plan, store))


def _shown(plan: Plan, store: Store) -> Spread:
    """What the latest run over the same data has shown, whatever its targets were."""
    from safemt_client.results.scores.spread import spread_of

    rows = store.query(
        """SELECT run_id FROM runs WHERE dataset_digest = ?
           AND run_id IN (SELECT run_id FROM run_events WHERE event = 'finished')
           ORDER BY created_at DESC LIMIT 1""",
        [plan.run.dataset_digest],
    ).rows
    return spread_of(store, rows[0][0]) if rows else ASSUMED
