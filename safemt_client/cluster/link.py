"""A worker's talk with the Writer and the Accounts: rows in groups, permits and money in bulk.

Both may be away for a moment, as while they are started again: whatever was not answered is said once more. A
delivery has a name, so that it is taken in once; a report says what is, not what has changed.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from safemt_client.cluster.messages import SILENCE_S, Answer, Report, ReportOfAccount
from safemt_client.cluster.permits import RemoteLimiter
from safemt_client.providers.limits.permits import Limiter, Terms
from safemt_client.results.store.deliveries import Delivery, pack
from safemt_client.results.store.errors import StoreError
from safemt_client.results.store.rows import Row

if TYPE_CHECKING:
    from safemt_client.cluster.money import RemoteBudget

__all__ = ["AwayError", "Link"]

_WINDOWS_S = ((32, 0.2), (8, 0.1), (2, 0.05), (0, 0.02))
"""Rows are gathered for so long, by how many hand-overs came the time before, at least; the store gathers
deliveries again."""
_PAUSE_S = 0.02
_UNDER_WAY = 4
_TICK_S, _CALM_S, _IDLE_S = 0.02, 0.2, 0.5
_AGAIN_S = 0.2
_KEPT = 20_000


_Waiting = tuple[Sequence[Row], asyncio.Future[None], float]
"""Rows, what their owner waits for, and since when."""


class AwayError(Exception):
    """Whoever was asked did not answer, and may or may not have done what it was asked for."""


class Link:
    """What a worker is linked by. `deliver` and `tick` raise `AwayError` where nobody answers."""

    def __init__(
        self,
        session_id: str,
        incarnation: str,
        deliver: Callable[[Delivery], Awaitable[bool]],
        tick: Callable[[Report], Awaitable[Answer]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session_id, self._incarnation = session_id, incarnation
        self._deliver, self._tick, self._clock = deliver, tick, clock
        self.budget: RemoteBudget | None = None
        self.limiters: dict[str, RemoteLimiter] = {}
        self.acknowledged_s: deque[float] = deque(maxlen=_KEPT)
        """How long rows waited for their commit, the latest ones."""
        self.on_fenced: Callable[[], None] = lambda: None
        self.on_failed: Callable[[Exception], None] = lambda error: None
        """Told why the Accounts cannot go on, as when the store cannot be written. It is fenced then."""
        self.fenced = False
        self._heard_at = -SILENCE_S
        self._wake = asyncio.Event()
        self._rows: list[_Waiting] = []
        self._more_rows = asyncio.Event()
        self._slots = asyncio.Semaphore(_UNDER_WAY)
        self._deliveries: set[asyncio.Task[None]] = set()
        self._number = self._said = 0
        self._paid_usd = 0.0
        self._pumps: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to talk, until `close`."""
        self._pumps = [asyncio.ensure_future(self._talk()), asyncio.ensure_future(self._gather())]

    async def close(self) -> None:
        """Deliver what is left, say what is held a last time, and be silent."""
        while self._rows or self._deliveries:  # noqa: ASYNC110 - a moment, at the end
            await asyncio.sleep(_PAUSE_S)
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        for limiter in self.limiters.values():
            limiter.stop()
        with suppress(AwayError):
            await self._say()

    @property
    def heard(self) -> bool:
        """Whether the Accounts have been heard of lately, and have not given this worker up."""
        return not self.fenced and self._clock() - self._heard_at < SILENCE_S

    def wake(self) -> None:
        """Something is to be asked."""
        self._wake.set()

    def limiter(self, terms: Terms) -> Limiter:
        """The limiter of an account."""
        if terms.account not in self.limiters:
            self.limiters[terms.account] = RemoteLimiter(self, terms)
        return self.limiters[terms.account]

    async def save(self, *rows: Row) -> None:
        """Append rows; return when they are committed.

        Raises:
            StoreError: they cannot be.
        """
        committed = asyncio.get_running_loop().create_future()
        self._rows.append((rows, committed, self._clock()))
        self._more_rows.set()
        await committed

    async def _gather(self) -> None:
        some: list[_Waiting] = []
        while True:
            window = next(seconds for least, seconds in _WINDOWS_S if len(some) >= least)
            await self._more_rows.wait()
            await asyncio.sleep(window)
            await self._slots.acquire()
            self._more_rows.clear()
            some, self._rows = self._rows, []
            self._number += 1
            task = asyncio.ensure_future(self._hand_over(self._number, some))
            self._deliveries.add(task)
            task.add_done_callback(self._deliveries.discard)

    async def _hand_over(self, number: int, some: Sequence[_Waiting]) -> None:
        wrong: Exception | None = None
        try:
            tables = pack(row for rows, *_ in some for row in rows)
            paid = self._paid()
            delivery = Delivery(self._session_id, self._incarnation, number, tables, paid)
            while True:
                try:
                    await self._deliver(delivery)
                    break
                except AwayError:
                    await asyncio.sleep(_AGAIN_S)
        except Exception as error:  # noqa: BLE001 - whoever waits is to be told
            wrong = error
        finally:
            self._slots.release()
        now = self._clock()
        for _, committed, since in some:
            self.acknowledged_s.append(now - since)
            if committed.done():
                continue
            if wrong is None:
                committed.set_result(None)
            else:
                committed.set_exception(StoreError(str(wrong)))

    def _paid(self) -> float | None:
        """What was spent since the last delivery: its rows say the same, and both arrive or neither."""
        if self.budget is None:
            return None
        before, self._paid_usd = self._paid_usd, self.budget.spent_here
        return self._paid_usd - before

    async def _talk(self) -> None:
        while not self.fenced:
            try:
                await self._say()
            except AwayError:
                await asyncio.sleep(_AGAIN_S)
                continue
            except Exception as error:  # noqa: BLE001 - else whoever waits for permits or money waits for ever
                self._fence()
                self.on_failed(error)
                return
            await asyncio.sleep(_TICK_S)
            limiters = self.limiters.values()
            if any(limiter.urgent for limiter in limiters) or (self.budget and self.budget.urgent):
                continue
            pause = _CALM_S if any(limiter.busy for limiter in limiters) else _IDLE_S
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), pause)

    async def _say(self) -> None:
        self._wake.clear()
        accounts: dict[str, ReportOfAccount] = {}
        # What is said again under the same number is not learnt from twice, but all of it is said.
        for name, limiter in self.limiters.items():
            accounts[name] = limiter.report()
        money = None if self.budget is None else self.budget.report()
        said_at = self._clock()
        answer = await self._tick(Report(self._incarnation, self._said + 1, accounts, money))
        self._said += 1
        for name, report in accounts.items():
            self.limiters[name].said(report)
        if answer.fenced:
            self._fence()
            return
        if answer.expected:
            self._heard_at = said_at
        for name, given in answer.accounts.items():
            self.limiters[name].answered(given)
        if self.budget is not None:
            self.budget.answered(answer)

    def _fence(self) -> None:
        self.fenced = True
        self.on_fenced()
