"""Permits of one account in a worker: asked of the Accounts in bulk, and used here."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from safemt_client.cluster.messages import AnswerOfAccount, Ended, ReportOfAccount
from safemt_client.providers.errors import PermitStoppedError
from safemt_client.providers.limits.permits import Change, Permit, Terms
from safemt_client.providers.pauses import loop_time
from safemt_client.providers.types import Reply

__all__ = ["RemoteLimiter", "Source"]

_KEPT_S = 1.0
"""An unused permit is given back after so long: others could use it, and its time is over."""
_MOST_WANTS = 500


class Source(Protocol):
    """Where permits come from."""

    @property
    def heard(self) -> bool:
        """Whether the Accounts have been heard of lately: otherwise no call is started."""
        ...

    def wake(self) -> None:
        """Ask soon."""
        ...


@dataclass(slots=True)
class _Waiter:
    tokens: float
    given: asyncio.Future[float]


class RemoteLimiter:
    """The permits of a worker for one account: a `Limiter`."""

    def __init__(self, source: Source, terms: Terms, clock: Callable[[], float] = loop_time) -> None:
        self.terms = terms
        self.on_change: Callable[[Change], None] | None = None
        self.on_stop: list[Callable[[], None]] = []
        self.clock = clock
        self._source = source
        self._most = terms.most
        self._share = min(terms.start, terms.most)
        self._rated = True
        self._stopped = False
        self._queue: deque[_Waiter] = deque()
        self._spare: deque[tuple[float, float]] = deque()
        # All that was given and is not back: in use, on the way to a caller, or spare.
        self._held = 0
        self._ended: list[Ended] = []
        self._unused: list[float] = []
        self._anew = False
        self._room = asyncio.Event()

    @property
    def limit(self) -> int:
        """See `Limiter`."""
        return max(1, min(self._share, self._most))

    def cap(self, most: int) -> None:
        """See `Limiter`."""
        self._most = min(self._most, max(1, most))

    @asynccontextmanager
    async def permit(self, tokens: float = 0) -> AsyncIterator[Permit]:
        """See `Limiter`."""
        permit = self.at_once(tokens) or await self.wait(tokens)
        try:
            yield permit
        finally:
            self.give_back()

    def at_once(self, tokens: float = 0) -> Permit | None:
        """See `Limiter`."""
        if self._stopped or self._queue or not self._source.heard:
            return None
        now = self.clock()
        while self._spare and self._spare[0][0] <= now:
            due, reserved = self._spare.popleft()
            if now - due <= _KEPT_S:
                return Permit(now, reserved)
            self._give_up(reserved)
        return None

    async def wait(self, tokens: float = 0) -> Permit:
        """See `Limiter`."""
        while True:
            if self._stopped:
                raise PermitStoppedError("the session is ending")
            waiter = _Waiter(tokens, asyncio.get_running_loop().create_future())
            self._queue.append(waiter)
            if self.urgent:
                self._source.wake()
            due = await self._given(waiter)
            now = self.clock()
            # Who has slept too long, or has not heard of the Accounts, starts nothing: it may count as gone.
            if self._source.heard and now - due <= _KEPT_S and not self._stopped:
                return Permit(now, tokens)
            self._give_up(tokens)

    async def _given(self, waiter: _Waiter) -> float:
        """When a permit is due, once that is the case."""
        try:
            due = await waiter.given
            if (pause := due - self.clock()) > 0:
                await asyncio.sleep(pause)
            return due
        except BaseException:
            if waiter in self._queue:
                self._queue.remove(waiter)
            elif waiter.given.done() and not waiter.given.cancelled() and not waiter.given.exception():
                self._give_up(waiter.tokens)
            raise
        finally:
            self._room.set()

    def give_back(self, count: int = 1) -> None:
        """See `Limiter`."""
        for _ in range(count):
            if self._rated or self._held > self._share or self._stopped or not self._source.heard:
                self._held -= 1
                self._source.wake()
            else:
                # Where nothing but the calls in flight is counted, the place serves the next call.
                self._assign(self.clock(), 0.0)

    def settle(
        self, permit: Permit, reply: Reply, tokens_used: float | None, *, timed_out: bool = False
    ) -> None:
        """See `Limiter`."""
        self._ended.append(
            Ended(
                self.clock() - permit.started,
                permit.tokens,
                tokens_used,
                reply.outcome.value,
                reply.status_code,
                reply.error_code,
                reply.retry_after_s,
                reply.rate_limits,
                timed_out,
            )
        )
        if not reply.outcome.observed:
            # Such as that there are too many calls, for which all workers are to slow down.
            self._source.wake()

    async def room(self) -> bool:
        """See `Limiter`."""
        while not self._stopped and len(self._queue) > max(1, self.limit // 8):
            if self._room.is_set():
                self._room = asyncio.Event()
            await self._room.wait()
        return not self._stopped

    def stop(self) -> None:
        """See `Limiter`."""
        self._stopped = True
        while self._queue:
            if not (given := self._queue.popleft().given).done():
                given.set_exception(PermitStoppedError("the session is ending"))
        self._room.set()
        for tell in self.on_stop:
            tell()

    def begin_anew(self) -> None:
        """See `Limiter`."""
        self._anew = True

    def report(self) -> ReportOfAccount:
        """What is to be said of this account now."""
        self._sweep()
        wants = tuple(waiter.tokens for waiter, _ in zip(self._queue, range(_MOST_WANTS), strict=False))
        return ReportOfAccount(
            self.terms, self._held, wants, tuple(self._ended), tuple(self._unused), self._anew
        )

    def said(self, report: ReportOfAccount) -> None:
        """A report has arrived."""
        del self._ended[: len(report.ended)]
        del self._unused[: len(report.unused)]
        self._anew = self._anew and not report.anew

    def answered(self, answer: AnswerOfAccount) -> None:
        """Take what the Accounts give."""
        self._share, self._rated = answer.share, answer.rated
        now = self.clock()
        for delay in answer.delays_s:
            self._held += 1
            self._assign(now + delay, 0.0)

    @property
    def busy(self) -> bool:
        """Whether something is to be said or asked."""
        return bool(self._queue or self._ended or self._unused or self._spare)

    @property
    def urgent(self) -> bool:
        """Whether calls wait for more than one of those that are in flight to come back."""
        return bool(self._queue) and (self._rated or self._held < self._share)

    def _assign(self, due: float, tokens: float) -> None:
        """Give a permit to the first who waits, or keep it for a while."""
        while self._queue:
            waiter = self._queue.popleft()
            if not waiter.given.done():
                waiter.given.set_result(due)
                self._room.set()
                return
        self._spare.append((due, tokens))

    def _give_up(self, tokens: float) -> None:
        """A permit that was used for nothing."""
        self._held -= 1
        self._unused.append(tokens)
        self._source.wake()

    def _sweep(self) -> None:
        now = self.clock()
        while self._spare and (now - self._spare[0][0] > _KEPT_S or self._stopped):
            self._give_up(self._spare.popleft()[1])
