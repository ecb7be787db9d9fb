"""What the parts of a running session share: the store, the money, the display, and what stops it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from safemt_client.engine.batches import BatchRunner, Job
from safemt_client.engine.interrupt import InFlight
from safemt_client.engine.meter import Meter
from safemt_client.engine.paying import PaidProvider
from safemt_client.engine.recorder import Recorder
from safemt_client.engine.spending import Spending
from safemt_client.engine.stopping import Stopping
from safemt_client.planning.costs import money
from safemt_client.planning.plan import Plan
from safemt_client.providers.batch.base import BatchEndpoint, BatchRefusedError
from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.errors import TargetStoppedError
from safemt_client.providers.pauses import loop_time
from safemt_client.providers.provider import Provider
from safemt_client.providers.types import Request
from safemt_client.telemetry.events import Listener, StopReason

__all__ = ["SessionContext"]

# Prices that differ by less are the same.
_AS_MUCH = 1.01


class SessionContext:
    """One session under way. `under_way` contains what may be abandoned while it waits for a retry."""

    def __init__(
        self,
        plan: Plan,
        recorder: Recorder,
        listener: Listener,
        budget: Spending,
        batches: Mapping[str, BatchEndpoint] | None = None,
        meters: Mapping[str, Meter] | None = None,
        clock: Callable[[], float] = loop_time,
    ) -> None:
        """`batches` holds the batch endpoint of each target or judge that has one, by its key.

        With a cost cap `meters` holds the prices of each model that is asked, by its key.
        """
        self.plan = plan
        self.recorder = recorder
        self.listener = listener
        self.budget = budget
        self.batches = batches or {}
        self._meters = meters or {}
        self._out_of_money: set[str] = set()
        self.clock = clock
        self.ending = StopReason()
        self.under_way: set[InFlight] = set()
        self.stopping = Stopping(plan, recorder, listener, self.halted)
        self._runners: list[BatchRunner] = []

    def interrupt(self) -> None:
        """Begin nothing more; give up what waits for a retry."""
        self.ending.interrupted = True
        for runner in self._runners:
            runner.stop()
        self._give_up_waits()

    def halted(self, key: str) -> bool:
        """Whether nothing more is started for a target or judge."""
        return self._ended(key) or key in self._out_of_money

    def _ended(self, key: str) -> bool:
        return self.ending.interrupted or key in self.ending.stopped

    def paid(
        self, key: str, provider: Provider, *, shown_as: str | None = None, stops: Sequence[str] = ()
    ) -> Provider:
        """The provider under the cost cap, if there is one.

        Once it may no longer be asked, neither may those that it `stops`; on the display that is said of
        whoever it is `shown_as`.
        """
        if (meter := self._meters.get(key)) is None:
            return provider
        shown = shown_as or key

        def ended() -> bool:
            return self._ended(shown)

        def refused(usd: float) -> None:
            first = key not in self._out_of_money
            self._out_of_money.update((key, shown, *stops))
            if first:
                self.cap(shown, usd, call_usd=usd)

        return PaidProvider(provider, self.budget, meter, ended, refused)

    async def reserve(self, key: str, calls: Mapping[str, int], first: Request | None = None) -> bool:
        """Set money aside for these calls, of which `first` is one; False once the cap leaves no room."""
        if not self.budget.capped:
            return True
        expected = most = self.budget.usd({key: 1})
        if first is not None and (meter := self._meters.get(key)) is not None:
            most = meter.most_usd(meter.call(first))
        # The last of the calls is to be sent as well, and held at what it may cost at most.
        if await self.budget.reserve(calls, slack_usd=max(most - expected, 0.0)):
            return True
        self.cap(key, self.budget.usd(calls), call_usd=most if most > expected * _AS_MUCH else 0.0)
        return False

    def cap(self, key: str, usd: float, *, call_usd: float = 0.0) -> None:
        """Something that may cost so many US dollars is not started because the cost cap is reached.

        `call_usd` is what one call may cost at most, where that is why.
        """
        self.ending.capped = True
        self.ending.call_usd = max(self.ending.call_usd, call_usd)
        spent, more = money(self.budget.spent), money(max(usd, call_usd))
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
            self.cap(key, self.budget.usd(runner.capped))
