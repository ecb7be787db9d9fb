"""What an anchor writes into the store, in place of a run: its sample and its verdicts."""

from __future__ import annotations

from collections.abc import Mapping

from safemt_client.engine.keeper import Keeper
from safemt_client.engine.recorder import Recorder
from safemt_client.planning.anchor import Anchor
from safemt_client.planning.plan import Plan

__all__ = ["AnchorRecorder"]


class AnchorRecorder(Recorder):
    """Writes one session of an anchor, which is no run and none of the run whose judge is asked.

    Raises:
        StoreError: from each `save_...`: the store cannot be written.
    """

    def __init__(self, anchor: Anchor, plan: Plan, store: Keeper, session_id: str) -> None:
        super().__init__(plan, store, session_id)
        self._anchor = anchor

    async def save_plan(self) -> None:
        """The anchor, its judges and its sample, where the store does not hold them yet."""
        row = self._anchor.row(self._plan)
        if row.anchor_id not in self.store.known_keys("anchor_runs", "anchor_id"):
            judges = [one for one in (self._plan.judge, *self._plan.members) if one is not None]
            await self.store.save(row, *judges, *self._anchor.replies)
        await self.save_taken(self._plan.taken)

    async def save_event(self, event: str, detail: Mapping[str, object]) -> None:
        """Nothing: the events of the store are those of runs."""
