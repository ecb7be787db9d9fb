"""What an account may send: requests and tokens a minute, and calls in flight.

The rate is a first-come first-served GCRA without burst: each permit is given at its own time, a
fixed step after the one before, so that the first second is no burst.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio

from safemt_client.providers.errors import PermitStoppedError

__all__ = ["AccountLimiter", "Limits"]

_SHARE = 0.97  # of the stated limit: servers' windows and ours do not line up


class AccountLimiter:
    """Permits of one account. Rates are per minute; None is no limit."""

    def __init__(
        self,
        *,
        rpm: float | None,
        tpm: float | None,
        concurrency: int,
        clock: Callable[[], float] = anyio.current_time,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._step = 60 / (rpm * _SHARE) if rpm else 0.0
        self._token_step = 60 / (tpm * _SHARE) if tpm else 0.0
        self._slots = anyio.Semaphore(concurrency)
        self._turnstile = anyio.Lock()
        self._clock = clock
        self._sleep = sleep
        self._next = self._next_tokens = float("-inf")
        self._paused_until = float("-inf")
        self._stopped = False
        self._waiting: set[anyio.CancelScope] = set()

    @asynccontextmanager
    async def permit(self, tokens: int = 0) -> AsyncIterator[None]:
        """Hold a place in flight once the rates allow `tokens` more. Cancelling gives it back.

        Raises:
            PermitStoppedError: `stop` was called before the permit was given.
        """
        if self._stopped:
            raise PermitStoppedError("the session is ending")
        with anyio.CancelScope() as scope:
            self._waiting.add(scope)
            try:
                await self._slots.acquire()
                try:
                    await self._admit(tokens)
                except BaseException:
                    self._slots.release()
                    raise
            finally:
                self._waiting.discard(scope)
        if scope.cancelled_caught:
            raise PermitStoppedError("the session is ending")
        try:
            yield
        finally:
            self._slots.release()

    def stop(self) -> None:
        """Give no permit any more; who waits for one is told."""
        self._stopped = True
        for scope in self._waiting:
            scope.cancel()

    def pause(self, seconds: float) -> None:
        """Give no permit for so long: the endpoint asked the whole account to wait."""
        self._paused_until = max(self._paused_until, self._clock() + seconds)

    async def _admit(self, tokens: int) -> None:
        if not (self._step or self._token_step) and self._paused_until <= self._clock():
            return
        # The lock keeps the order of arrival; who is cancelled while waiting has taken nothing.
        async with self._turnstile:
            while True:
                now = self._clock()
                at = max(self._next, self._next_tokens, self._paused_until)
                if at <= now:
                    break
                await self._sleep(at - now)
            if self._step:
                self._next = max(self._next, now) + self._step
            if self._token_step:
                self._next_tokens = max(self._next_tokens, now) + tokens * self._token_step


class Limits:
    """One limiter an account: several targets and the judge may share one."""

    def __init__(self, *, rpm: float | None, tpm: float | None, concurrency: int) -> None:
        self._rpm, self._tpm, self._concurrency = rpm, tpm, concurrency
        self._accounts: dict[str, AccountLimiter] = {}

    def for_account(self, account: str) -> AccountLimiter:
        """The limiter of an account."""
        if account not in self._accounts:
            self._accounts[account] = AccountLimiter(
                rpm=self._rpm, tpm=self._tpm, concurrency=self._concurrency
            )
        return self._accounts[account]

    def stop(self) -> None:
        """Begin nothing more on any account."""
        for limiter in self._accounts.values():
            limiter.stop()
