"""Permits for callers in other processes: many at once, and a little ahead of their time.

Whoever asks for a permit over a connection gets it late. So permits that are due within the time of a message
are given now, each with the time that it is to be used at: the rates are kept, and used up all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from safemt_client.providers.limits.limiter import AccountLimiter
from safemt_client.providers.limits.permits import Permit, Terms
from safemt_client.providers.limits.rates import RateLimit

__all__ = ["BulkLimiter", "Granted"]


@dataclass(frozen=True, slots=True)
class Granted:
    """Permits for the first of those who asked: `delays_s` from now until each may be used.

    `again_s` is when to ask for the others, None if nobody is left or if that depends on a call coming back.
    """

    delays_s: tuple[float, ...]
    again_s: float | None


class BulkLimiter(AccountLimiter):
    """The limiter of an account that several processes share; all of its methods return at once.

    `settle` takes a permit as the caller had it, with `started` on this limiter's clock, and what is given
    back here was given here, by `take_many`, or told of by `hold`.
    """

    _awaited = 0
    _read: tuple[float | None, float | None] = (None, None)

    def take_many(self, tokens: Sequence[float], horizon_s: float = 0.1) -> Granted:
        """Permits for requests of so many tokens each, in their order, that are due within `horizon_s`.

        After `stop` none are given.
        """
        now = self.clock()
        delays: list[float] = []
        again: float | None = None
        for need in tokens:
            if self._line.closed or self._in_flight >= self.limit:
                break
            at = max(self._ready_at(), now)
            if at - now > horizon_s:
                again = at - now - horizon_s
                break
            self._taken_at(at, need)
            delays.append(at - now)
        return Granted(tuple(delays), again)

    def await_for(self, callers: int) -> None:
        """So many callers of other processes wait for a permit now: the limit may grow only if some do."""
        self._awaited = callers

    def give_back_unused(self, tokens: Sequence[float]) -> None:
        """These permits, of so many tokens each, were used for no call: their time is free again.

        It is given to the next one and never makes a burst.
        """
        for need in tokens:
            self._not_used(Permit(self.clock(), need))

    def restate(self, terms: Terms) -> None:
        """From now on these limits are stated; where none is, what the endpoint has said counts."""
        pairs = ((self._requests, terms.rpm, self._read[0]), (self._tokens, terms.tpm, self._read[1]))
        before = (self._requests.per_minute, self._tokens.per_minute, self.limit)
        for rate, stated, read in pairs:
            rate.per_minute = read if stated is None else stated
        self._learn = (terms.rpm is None, terms.tpm is None)
        self._concurrency.bound(terms.start, terms.most)
        if (self._requests.per_minute, self._tokens.per_minute, self.limit) != before:
            self._tell("stated")

    def hold(self, count: int) -> None:
        """So many calls are in flight that this limiter has not given: as after a restart."""
        self._in_flight += count

    @property
    def in_flight(self) -> int:
        """Permits that are out."""
        return self._in_flight

    @property
    def waiting(self) -> int:
        """Callers that wait for a permit, here and in other processes."""
        return len(self._line) + self._awaited

    def _learn_from(self, requests: RateLimit | None, tokens: RateLimit | None) -> None:
        super()._learn_from(requests, tokens)
        self._read = (
            self._read[0] if requests is None else requests.per_minute,
            self._read[1] if tokens is None else tokens.per_minute,
        )
