"""What the parts of a running session share: the store, the money, the display, and what stops it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import anyio

from safemt_client.engine.batches import BatchRunner, Job
from safemt_client.engine.budget import Budget
from safemt_client.engine.interrupt import InFlight
from safemt_client.engine.recorder import Recorder
from safemt_client.planning.costs import money
from safemt_client.planning.plan import Plan
from safemt_client.providers.batch.base import BatchEndpoint, BatchRefusedError
from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.errors import TargetStoppedError
from safemt_client.telemetry.events import Listener, StopReason

__all__ = ["SessionContext"]


class SessionContext:
    """One session under way. `under_way` contains what may be abandoned while it waits for a retry."""

    def __init__(
        self,
        plan: Plan,
        recorder: Recorder,
        listener: Listener,
        budget: Budget,
        batches: Mapping[str, BatchEndpoint] | None = None,
        clock: Callable[[], float] = anyio.current_time,
    ) -> None:
        """`batches` holds the batch endpoint of each target or judge that has one, by its key."""
        self.plan = plan
        self.recorder = recorder
        self.listener = listener
        self.budget = budget
        self.batches = batches or {}
        self.clock = clock
        self.ending = StopReason()
        self.under_way: set[InFlight] = set()
        self._runners: list[BatchRunner] = []

    def interrupt(self) -> None:
        """Begin nothing more; give up what waits for a retry."""
        self.ending.interrupted = True
        for runner in self._runners:
            runner.stop()
        self._give_up_waits()

    def halted(self, key: str) -> bool:
        """Whether nothing more is started for a target or judge."""
        return self.ending.interrupted or key in self.ending.stopped

    def cap(self, key: str, calls: Mapping[str, int]) -> None:
        """Something is not started because the cost cap is reached."""
        self.ending.capped = True
        spent, more = money(self.budget.spent), money(self.budget.usd(calls))
        self.listener.stopped(
            key, f"--max-cost: {spent} spent, and the next one may take {more}", "max_cost", None
        )

    def halt(self, key: str, error: TargetStoppedError | BatchRefusedError) -> None:
        """A target or judge can no longer be asked."""
        if key not in self.ending.stopped:
            self.ending.stopped[key] = str(error)
            if error.code is ErrorCode.CONFIGURATION:
                self.ending.misconfigured.append(key)
            self.listener.stopped(key, str(error), error.code, error.status)
            self._give_up_waits(key)

    def _give_up_waits(self, key: str | None = None) -> None:
        """Give up what waits for a retry, of one target or judge or of all."""
        now = self.clock()
        for asking in self.under_way:
            if asking.waits_until > now and key in (None, asking.key):
                asking.scope.cancel()

    async def run_batches(self, key: str, identity: str, jobs: Sequence[Job], *, send: bool) -> None:
        """Carry out jobs of a target or the judge; halt it if its endpoint does not accept batches."""

        def status(batch_key: str, done: int, total: int) -> None:
            self.listener.batch(key, batch_key, done, total)

        runner = BatchRunner(key, identity, self.batches[key], self.recorder, self.budget, status=status)
        self._runners.append(runner)
        if self.halted(key):
            return
        try:
            await runner.run(jobs, send=send)
        except* (TargetStoppedError, BatchRefusedError) as group:
            leaf: BaseException = group
            while isinstance(leaf, BaseExceptionGroup):
                leaf = leaf.exceptions[0]
            assert isinstance(leaf, TargetStoppedError | BatchRefusedError)
            self.halt(key, leaf)
        if runner.capped:
            self.cap(key, runner.capped)
