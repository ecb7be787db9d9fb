"""Permits of an account: calls in flight, requests and tokens a minute, pauses. First come, first served."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.limits.concurrency import Concurrency
from safemt_client.providers.limits.line import Line
from safemt_client.providers.limits.permits import Change, Limiter, Permit, Terms
from safemt_client.providers.limits.rates import Rate, RateLimit
from safemt_client.providers.pauses import loop_time
from safemt_client.providers.resources import open_files_limit
from safemt_client.providers.types import Outcome, Reply

__all__ = ["AccountLimiter", "Limits", "StatedLimits"]

_OVERLOAD = (429, 503, 529)
_LATE = (408, 504, 524)
_FAULT = (500, 502, None)
_USUAL = 64


class AccountLimiter:
    """Permits of one account. Rates are per minute; None means that no limit is known.

    The rates are kept without any burst. The number in flight adapts between 1 and `most`, beginning
    at `start` (by default at `most`). `on_change` is told of each change that matters.
    """

    def __init__(
        self,
        *,
        rpm: float | None = None,
        tpm: float | None = None,
        concurrency: int,
        start: int | None = None,
        account: str = "",
        on_change: Callable[[Change], None] | None = None,
        clock: Callable[[], float] = loop_time,
    ) -> None:
        self._requests, self._tokens = Rate(rpm), Rate(tpm)
        self._learn = (rpm is None, tpm is None)
        self._concurrency = Concurrency(start=start or concurrency, most=concurrency)
        self._account = account
        self.on_change = on_change
        self.on_stop: list[Callable[[], None]] = []
        """Called by `stop`."""
        self.clock = clock
        """The clock of all waits, in seconds."""
        self._line = Line(self._wait_s, self._taken, self._not_used)
        self._in_flight = 0
        self._paused_until = float("-inf")
        self._told = self._concurrency.limit

    @classmethod
    def of(cls, terms: Terms) -> Self:
        """The limiter of an account on these terms."""
        return cls(
            rpm=terms.rpm,
            tpm=terms.tpm,
            concurrency=terms.most,
            start=terms.start,
            account=terms.account,
        )

    @property
    def waiting(self) -> int:
        """Callers that wait for a permit."""
        return len(self._line)

    @property
    def limit(self) -> int:
        """Calls that may be in flight at present."""
        return self._concurrency.limit

    def cap(self, most: int) -> None:
        """Let no more calls be in flight than this, whatever the endpoint takes."""
        self._concurrency.cap(most)
        self._told = self.limit

    @asynccontextmanager
    async def permit(self, tokens: float = 0) -> AsyncIterator[Permit]:
        """Hold a place in flight once the rates allow a request of so many tokens.

        Cancelling gives the place back, and costs nothing while it is waited for.

        Raises:
            PermitStoppedError: `stop` was called before the permit was given.
        """
        permit = self.at_once(tokens) or await self.wait(tokens)
        try:
            yield permit
        finally:
            self.give_back()

    def at_once(self, tokens: float = 0) -> Permit | None:
        """A permit, to be given back by `give_back`; None if it has to be waited for."""
        if self._line.closed or self._line or self._wait_s() != 0:
            return None
        return self._taken(tokens)

    async def wait(self, tokens: float = 0) -> Permit:
        """A permit, once it is this caller's turn; to be given back by `give_back`.

        Raises:
            PermitStoppedError: `stop` was called before it was given.
        """
        return await self._line.wait(tokens)

    def give_back(self, count: int = 1) -> None:
        """So many calls with a permit are over."""
        self._in_flight -= count
        if self._line:
            self._line.serve()

    async def room(self) -> bool:
        """Wait until few callers wait for a permit, so that more work is useful; False after `stop`."""
        await self._line.shorter(lambda: max(1, self.limit // 8))
        return not self._line.closed

    def settle(
        self, permit: Permit, reply: Reply, tokens_used: float | None, *, timed_out: bool = False
    ) -> None:
        """Learn from what came back, or from a call that was `timed_out` on our side.

        `tokens_used` is None where the endpoint did not say.
        """
        now = self.clock()
        self._tokens.correct(_settled(permit.tokens, reply, tokens_used))
        overloaded = not reply.outcome.observed and reply.status_code in _OVERLOAD
        # An endpoint that accepts every call and answers none in time is overloaded, though it refuses none.
        late = not reply.outcome.observed and (timed_out or reply.status_code in _LATE)
        # Here, too, fewer calls at a time are what helps.
        late = late or reply.error_code is ErrorCode.LOCAL_SHORTAGE
        if reply.outcome.observed:
            saturated = bool(self.waiting) or self._in_flight >= self.limit
            self._concurrency.succeeded(saturated=saturated)
            if abs(self.limit - self._told) > max(1, self._told // 4):
                self._tell("growth")
        elif overloaded or late:
            if reply.status_code == 429:
                self._requests.slow_down()
                self._tokens.slow_down()
            self._concurrency.overloaded(now, started=permit.started)
            if self._told - self.limit >= max(1, self._told // 10):
                self._tell("overload")
        elif reply.status_code in _FAULT:
            self._concurrency.faulted()
        self._learn_from(*reply.rate_limits)
        if reply.retry_after_s and (overloaded or not reply.outcome.observed):
            self.pause(reply.retry_after_s)
        if self._line:
            self._line.serve()

    def pause(self, seconds: float) -> None:
        """Give no permits for this long: the endpoint asked the whole account to wait."""
        until = self.clock() + seconds
        if until > self._paused_until:
            self._paused_until = until
            self._tell("pause", seconds)

    def stop(self) -> None:
        """Give no more permits; callers that wait for one get an error."""
        self._line.close()
        for tell in self.on_stop:
            tell()

    def begin_anew(self) -> None:
        """An outage is over: begin with few calls in flight, up to as many as before it in a few rounds."""
        self._concurrency.begin_anew()
        if self.limit < self._told:
            self._tell("outage")

    def _learn_from(self, requests: RateLimit | None, tokens: RateLimit | None) -> None:
        pairs = ((self._requests, requests, self._learn[0]), (self._tokens, tokens, self._learn[1]))
        for rate, stated, learn in pairs:
            if stated is None:
                continue
            if stated.exhausted_s:
                self.pause(stated.exhausted_s)
            if learn and rate.per_minute != stated.per_minute:
                first = rate.per_minute is None
                rate.per_minute = stated.per_minute
                if first:
                    self._tell("learnt")

    def _wait_s(self) -> float | None:
        """Seconds until a permit can be given; None if that depends on a call coming back."""
        wait = self._ready_at() - self.clock()
        if wait > 0:
            return wait
        return 0 if self._in_flight < self.limit else None

    def _ready_at(self) -> float:
        """When rates and pauses allow the next permit."""
        return max(self._requests.ready_at(), self._tokens.ready_at(), self._paused_until)

    def _taken(self, tokens: float) -> Permit:
        return self._taken_at(self.clock(), tokens)

    def _taken_at(self, at: float, tokens: float) -> Permit:
        self._requests.take(at)
        self._tokens.take(at, tokens)
        self._in_flight += 1
        return Permit(at, tokens)

    def _not_used(self, permit: Permit) -> None:
        self._requests.correct(-1)
        self._tokens.correct(-permit.tokens)
        self.give_back()

    def _tell(self, reason: str, pause_s: float = 0.0) -> None:
        self._told = self.limit
        if self.on_change is not None:
            self.on_change(
                Change(
                    self._account,
                    reason,
                    self.limit,
                    self._in_flight,
                    self._requests.per_minute,
                    self._tokens.per_minute,
                    pause_s,
                )
            )


def _settled(reserved: float, reply: Reply, used: float | None) -> float:
    """Tokens used beyond those reserved; negative if fewer."""
    if used is not None:
        return used - reserved
    # Refused before any work: no token was charged. Where that is not sure, the reservation stands.
    unsent = reply.error_code is ErrorCode.LOCAL_SHORTAGE
    refused = reply.outcome is Outcome.ERROR_TRANSIENT and (unsent or reply.status_code in _OVERLOAD)
    return -reserved if refused else 0.0


@dataclass(frozen=True, slots=True)
class StatedLimits:
    """The user's limits of an account: requests and tokens a minute, calls in flight; None is not stated."""

    rpm: float | None = None
    tpm: float | None = None
    max_concurrency: int | None = None


class Limits:
    """One limiter an account: several targets, the judge and a guard may share one.

    `every` holds for each account; `accounts` for one by name, or, under a vendor's name, for all models
    of the vendor together, which then share one limiter. Without a stated concurrency the number in flight
    adapts from `start` up to `most`.
    """

    def __init__(
        self,
        every: StatedLimits = StatedLimits(),
        accounts: Mapping[str, StatedLimits] | None = None,
        *,
        start: int = 8,
        most: int = 512,
        in_all: int | None = None,
        make: Callable[[Terms], Limiter] = AccountLimiter.of,
    ) -> None:
        """`in_all` is how many calls this process can have in flight: all accounts share them.

        `make` makes the limiter of an account, once it is first asked for.
        """
        self._every = every
        self._in_all = in_all
        self._stated = dict(accounts or {})
        self._start, self._most = start, most
        self._presumed: dict[str, int] = {}
        self._make = make
        self._limiters: dict[str, Limiter] = {}
        self._on_change: Callable[[Change], None] | None = None

    def account_of(self, account: str) -> str:
        """The account that is meant: the vendor's where the user states limits for it as a whole."""
        vendor = account.partition("/")[0]
        return vendor if vendor in self._stated and account not in self._stated else account

    def stated(self, account: str) -> StatedLimits:
        """What the user says about an account."""
        own = self._stated.get(self.account_of(account), StatedLimits())
        return StatedLimits(
            self._every.rpm if own.rpm is None else own.rpm,
            self._every.tpm if own.tpm is None else own.tpm,
            self._every.max_concurrency if own.max_concurrency is None else own.max_concurrency,
        )

    def unused(self) -> list[str]:
        """Accounts with limits from the user that no target uses."""
        return sorted(self._stated.keys() - self._limiters.keys())

    def presume(self, account: str, concurrency: int) -> None:
        """Say how many calls an account answers at a time; more are not made unless the user says so."""
        self._presumed[self.account_of(account)] = concurrency

    def for_account(self, account: str) -> Limiter:
        """The limiter of an account."""
        name = self.account_of(account)
        if name not in self._limiters:
            limiter = self._limiters[name] = self._make(self._terms(name, self.stated(account)))
            limiter.on_change = self._on_change
            if (share := self._share) is not None:
                for limiter in self._limiters.values():
                    limiter.cap(share)
        return self._limiters[name]

    def _terms(self, name: str, stated: StatedLimits) -> Terms:
        # A figure from the user is the starting point; without one the limit is found by probing.
        most = self._presumed.get(name, self._most)
        return Terms(
            account=name,
            rpm=stated.rpm,
            tpm=stated.tpm,
            start=stated.max_concurrency or min(self._start, most),
            most=stated.max_concurrency or most,
        )

    @property
    def _share(self) -> int | None:
        """Calls in flight of one account: connections are kept for a while, so that none lends its own."""
        return None if self._in_all is None else max(1, self._in_all // len(self._limiters))

    @property
    def nothing_left(self) -> bool:
        """Whether there is no room for any call."""
        return self._in_all == 0

    def notes(self) -> list[str]:
        """What the user should know: fewer calls in flight than were asked for, or than are usual."""
        share = self._share if self._limiters else None
        wanted = max((self.stated(name).max_concurrency or _USUAL for name in self._limiters), default=0)
        if share is None or share >= wanted:
            return []
        return [
            f"at most {share} {'call is' if share == 1 else 'calls are'} in flight at a time: this process "
            f"may open only {open_files_limit()} files; raise that with ulimit -n"
        ]

    def observe(self, on_change: Callable[[Change], None]) -> None:
        """Report every change on any account."""
        self._on_change = on_change
        for limiter in self._limiters.values():
            limiter.on_change = on_change

    def stop(self) -> None:
        """Begin nothing more on any account."""
        for limiter in self._limiters.values():
            limiter.stop()
