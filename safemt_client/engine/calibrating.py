"""What a calibration writes into the store, in place of a run: judge, labelled replies, verdicts."""

from __future__ import annotations

from collections.abc import Mapping

from safemt_client.engine.keeper import Keeper
from safemt_client.engine.recorder import Recorder
from safemt_client.planning.calibration import Calibration
from safemt_client.planning.plan import Plan

__all__ = ["CalibrationRecorder"]


class CalibrationRecorder(Recorder):
    """Writes one session of a calibration, which is no run: no report or leaderboard counts it.

    Raises:
        StoreError: from each `save_...`: the store cannot be written.
    """

    def __init__(self, calibration: Calibration, plan: Plan, store: Keeper, session_id: str) -> None:
        super().__init__(plan, store, session_id)
        self._calibration = calibration

    async def save_plan(self) -> None:
        """The calibration and its set, where the store does not hold them yet."""
        row, of_set = self._calibration.rows(self._plan)
        if row.calibration_id not in self.store.known_keys("calibration_runs", "calibration_id"):
            if row.set_digest in self.store.known_keys("calibration_replies", "set_digest"):
                of_set = []
            judges = [one for one in (self._plan.judge, *self._plan.members) if one is not None]
            await self.store.save(row, *judges, *of_set)
        await self.save_taken(self._plan.taken)

    async def save_event(self, event: str, detail: Mapping[str, object]) -> None:
        """Nothing: the events of the store are those of runs."""
