"""What a check writes into the store, in place of a run: its draw and the stronger judge's verdicts."""

from __future__ import annotations

from collections.abc import Mapping

from safemt_client.engine.keeper import Keeper
from safemt_client.engine.recorder import Recorder
from safemt_client.planning.adaptive import Check
from safemt_client.planning.plan import Plan

__all__ = ["CheckRecorder"]


class CheckRecorder(Recorder):
    """Writes one session of a check, which is no run and changes no label of the run that it checks.

    Raises:
        StoreError: from each `save_...`: the store cannot be written.
    """

    def __init__(self, check: Check, plan: Plan, store: Keeper, session_id: str) -> None:
        super().__init__(plan, store, session_id)
        self._check = check

    async def save_plan(self) -> None:
        """The draw with all its chances, before anything is asked, where the store does not hold it yet."""
        row = self._check.row(self._plan)
        if row.draw_id not in self.store.known_keys("label_draws", "draw_id"):
            judges = [one for one in (self._plan.judge, *self._plan.members) if one is not None]
            await self.store.save(row, *judges, *self._check.draw.replies)
        await self.save_taken(self._plan.taken)

    async def save_event(self, event: str, detail: Mapping[str, object]) -> None:
        """Nothing: the events of the store are those of runs."""
