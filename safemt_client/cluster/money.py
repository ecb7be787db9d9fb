"""A worker's money: a budget whose cap is what the Accounts have given it so far."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from safemt_client.cluster.messages import Answer, MoneySaid
from safemt_client.engine.budget import Budget
from safemt_client.engine.meter import Call, Meter

__all__ = ["RemoteBudget"]


class RemoteBudget(Budget):
    """The same rules as in one process, within what is given in advance; who lacks money asks for more.

    `ask` asks the Accounts soon. Without a cap nothing is ever asked.
    """

    def __init__(self, first: Mapping[str, float], *, capped: bool, ask: Callable[[], None]) -> None:
        super().__init__(0.0 if capped else None, spent=0.0, first=first)
        self._ask = ask
        self._elsewhere = 0.0
        self._needs: dict[int, tuple[float, float]] = {}
        self._refused = math.inf
        self._waiters = 0

    @property
    def spent(self) -> float:
        """What the whole run has spent, as far as is known here."""
        return self._elsewhere + self._spent

    @property
    def spent_here(self) -> float:
        """What this worker has spent."""
        return self._spent

    @property
    def unsure(self) -> bool:
        """Whether something was spent that the store does not know."""
        return self._unsure

    @property
    def urgent(self) -> bool:
        """Whether somebody waits for money."""
        return bool(self._needs)

    async def reserve(
        self, calls: Mapping[str, int], *, slack_usd: float = 0.0, in_batch: str | None = None
    ) -> bool:
        """See `Spending`."""
        while not self.try_reserve(calls, slack_usd=slack_usd, in_batch=in_batch):
            needs = self._spent + self.usd(self._set_aside) + self.usd(calls) + slack_usd - self._cap
            if not self._set_aside.total() and not self._calls and needs >= self._refused:
                return False
            await self._get(needs, needs)
        return True

    async def begin(self, meter: Meter, call: Call) -> float | None:
        """See `Spending`."""
        while not self._has_room(meter, call):
            most = meter.most_usd(call)
            verdicts = {} if meter.judge_key is None else {meter.judge_key: meter.in_flight + 1}
            needs = self._spent + self._held + most + self.usd(verdicts) - self._cap
            if not self._calls and needs >= self._refused:
                return None
            # With room for an attempt more: one that fails and was paid for cannot wait for money.
            await self._get(needs, needs + most)
        return self._hold(meter, meter.most_usd(call))

    def report(self) -> MoneySaid | None:
        """What is to be said to the Accounts."""
        if not self.capped:
            return None
        needs, wants = min(self._needs.values(), default=(0.0, 0.0))
        return MoneySaid(self._cap, self._spent, self._committed, max(needs, 0.0), max(wants, 0.0))

    def answered(self, answer: Answer) -> None:
        """Take what the Accounts give."""
        if not self.capped:
            return
        needs = min(self._needs.values(), default=(math.inf, 0.0))[0]
        self._elsewhere = answer.spent_usd - self._spent
        more = answer.may_usd > self._cap
        self._cap = answer.may_usd
        self._refused = needs if answer.refused and not more else math.inf
        least = self._spent + self._committed
        if given_back := answer.scarce and not more and self._cap > least:
            self._cap = least
        if more or answer.refused or given_back:
            self._changed.set()

    @property
    def _committed(self) -> float:
        return max(self.usd(self._set_aside), self._held)

    async def _get(self, needs: float, wants: float) -> None:
        """Wait until there is more money, or other reason to look again."""
        self._waiters += 1
        number = self._waiters
        if needs > 0:
            self._needs[number] = (needs, wants)
            self._ask()
        try:
            await self._change()
        finally:
            self._needs.pop(number, None)
