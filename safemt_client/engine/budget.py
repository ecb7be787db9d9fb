"""US dollars that a run may cost, with its resumes.

A conversation begins only if it can be paid to its end, at the mean price of the calls so far. And a call is
sent only if what it may cost at most, with all that is in flight, stays within the cap. So few conversations
break off, and the cap holds whatever the replies cost.

What is in flight is in no row of the store. So the store is told beforehand how much may be (a lease), and
what a killed session leaves of it counts as spent.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Protocol

import anyio

from safemt_client.engine.meter import Call, Meter

__all__ = ["Budget", "Lender"]

# The price before any call has landed counts as so many calls.
_PRIOR = 5
# A lease is this part of what is left, so that commits are few.
_PART = 8


class Lender(Protocol):
    """Writes into the store what a session may have spent by single calls, in US dollars from its start."""

    async def save_lease(self, event: str, up_to_usd: float) -> None:
        """Return once it is committed."""

    def save_lease_now(self, event: str, up_to_usd: float) -> None:
        """The same where nothing can be awaited."""


class Budget:
    """Money of one run. `first` is the price of a call, for each target and the judge, until one has landed.

    `spent` is what earlier sessions of the run have cost or may have; `cap_usd` None is no cap. With a
    `lender` the store knows what may be in flight.
    """

    def __init__(
        self,
        cap_usd: float | None,
        *,
        spent: float,
        first: Mapping[str, float],
        lender: Lender | None = None,
    ) -> None:
        self._cap = math.inf if cap_usd is None else cap_usd
        self.capped = cap_usd is not None
        """Whether there is a cap: without one nothing is set aside."""
        self._before = self._spent = spent
        self._mean = dict(first)
        self._seen: Counter[str] = Counter()
        self._set_aside: Counter[str] = Counter()
        self._in_batches: Counter[str] = Counter()
        self._changed = anyio.Event()
        self._calls = 0
        self._held = 0.0
        self._by_calls = 0.0
        self._unsure = False
        self._lender = lender
        self._lease = anyio.Lock()
        self._leased = 0.0

    @property
    def spent(self) -> float:
        """US dollars so far, earlier sessions included."""
        return self._spent

    async def reserve(
        self, calls: Mapping[str, int], *, slack_usd: float = 0.0, in_batch: str | None = None
    ) -> bool:
        """Set money aside for these calls, by key; False once they can no longer be paid.

        Waits while it depends on calls under way, which may turn out cheaper than set aside for. `slack_usd`
        is to be left besides: the last of them may be held at far more than it costs.
        """
        while not self.try_reserve(calls, slack_usd=slack_usd, in_batch=in_batch):
            if not self._set_aside.total() and not self._calls:
                return False
            await self._change()
        return True

    def try_reserve(
        self, calls: Mapping[str, int], *, slack_usd: float = 0.0, in_batch: str | None = None
    ) -> bool:
        """The same without waiting: False if they cannot be paid at present.

        `in_batch` is the key of whoever is asked in a batch, at once: no more than the cap leaves beside what
        is in flight.
        """
        if not self.capped:
            return True
        if self._spent + self.usd(self._set_aside) + self.usd(calls) + slack_usd > self._cap:
            return False
        if in_batch is not None and not self._fits(self.usd({in_batch: calls[in_batch]})):
            return False
        self.set_aside(calls, in_batch=in_batch)
        return True

    def set_aside(self, calls: Mapping[str, int], *, in_batch: str | None = None) -> None:
        """Set money aside for calls that are under way already, whatever the cap."""
        if not self.capped:
            return
        self._set_aside.update(calls)
        if in_batch is not None:
            self._in_batches[in_batch] += calls[in_batch]

    def release(self, calls: Mapping[str, int], *, in_batch: str | None = None) -> None:
        """Give back what was set aside for calls that are not made."""
        if not self.capped:
            return
        self._set_aside.subtract(calls)
        if in_batch is not None:
            self._in_batches[in_batch] -= calls[in_batch]
        self._changed.set()

    def landed(self, key: str, cost_usd: float | None, *, free: bool = False) -> None:
        """A call in a batch has ended; one of unknown cost counts as the mean, unless it was surely free."""
        self._in_batches[key] = max(self._in_batches[key] - 1, 0)
        self._spent += cost_usd if cost_usd is not None else 0.0 if free else self._mean.get(key, 0.0)
        self.settled(key, cost_usd)

    def spend(self, usd: float) -> None:
        """A single call has cost so much that nothing was held for."""
        self._spent += usd
        self._by_calls += usd

    def settled(self, key: str, cost_usd: float | None) -> None:
        """Something that money was set aside for is over; what it cost was paid call by call."""
        self.learn(key, cost_usd)
        self.release({key: 1})

    def learn(self, key: str, cost_usd: float | None) -> None:
        """Take a price into the mean, None for one that is not known."""
        if cost_usd is not None:
            mean = self._mean.get(key, 0.0)
            self._seen[key] += 1
            self._mean[key] = mean + (cost_usd - mean) / (_PRIOR + self._seen[key])

    def usd(self, calls: Mapping[str, int]) -> float:
        """What these calls, by key, would take at the mean prices so far."""
        return sum(count * self._mean.get(key, 0.0) for key, count in calls.items())

    async def begin(self, meter: Meter, call: Call) -> float | None:
        """Hold what a call may cost at most, in US dollars; None once the cap leaves no room for that.

        Waits while that depends on calls in flight. When it returns, the store has the lease for it.
        """
        while not self._has_room(meter, call):
            if not self._calls and not self._in_batches.total():
                return None
            await self._change()
        usd = self._hold(meter, meter.most_usd(call))
        try:
            if self._lender is not None and self._by_calls + self._held > self._leased:
                async with self._lease:
                    if (up_to := self._next_lease(usd)) > self._leased:
                        await self._lender.save_lease("granted", up_to)
                        self._leased = max(up_to, self._leased)
        except BaseException:
            self._let_go(meter, usd)
            raise
        return usd

    def again(self, meter: Meter, call: Call, held: float, paid: float) -> float | None:
        """An attempt was paid for and failed: hold money for the next one, None if there is none.

        Does not wait: the attempts of a call follow each other without a place to do so.
        """
        self.end(meter, held, paid)
        if not self._has_room(meter, call):
            return None
        usd = self._hold(meter, meter.most_usd(call))
        if self._lender is not None and (up_to := self._next_lease(usd)) > self._leased:
            self._lender.save_lease_now("granted", up_to)
            self._leased = up_to
        return usd

    def end(self, meter: Meter, held: float, paid: float, *, unsure: bool = False) -> None:
        """A call is over: `paid` US dollars are spent. `unsure`: the store does not know it.

        It was given up and may yet be charged, or its tokens are not reported.
        """
        self._unsure |= unsure
        self.spend(paid)
        self._let_go(meter, held)

    async def close(self, *, clean: bool) -> None:
        """The session is over: unless all has ended in order (`clean`), what is not certain stays held."""
        if self._lender is not None and self._leased:
            exact = clean and not self._unsure and not self._calls
            await self._lender.save_lease("closed", 0.0 if exact else self._by_calls + self._held)

    def _has_room(self, meter: Meter, call: Call) -> bool:
        if meter.free:
            return True
        # Each reply in flight is going to be judged.
        verdicts = {} if meter.judge_key is None else {meter.judge_key: meter.in_flight + 1}
        return meter.has_room(call) and self._fits(meter.most_usd(call) + self.usd(verdicts))

    def _fits(self, usd: float) -> bool:
        return self._spent + self._held + self.usd(self._in_batches) + usd <= self._cap * (1 + 1e-12)

    def _hold(self, meter: Meter, usd: float) -> float:
        self._calls += 1
        meter.in_flight += 1
        self._held += usd
        return usd

    def _let_go(self, meter: Meter, usd: float) -> None:
        self._calls -= 1
        meter.in_flight -= 1
        # Sums of what is given back differ from 0 by a rounding.
        self._held = max(self._held - usd, 0.0) if self._calls else 0.0
        self._changed.set()

    def _next_lease(self, usd: float) -> float:
        """What the session may have spent after the next lease; no more than now if that is enough."""
        needed = self._by_calls + self._held
        if needed <= self._leased:
            return self._leased
        left = max(self._cap - self._spent - self._held - self.usd(self._in_batches), 0.0)
        return needed + min(left, max(left / _PART, usd))

    async def _change(self) -> None:
        # One event for all who wait: each wake makes the next one new.
        if self._changed.is_set():
            self._changed = anyio.Event()
        await self._changed.wait()
