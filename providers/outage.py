"""An outage of one target: while nothing is answered, one request at a time finds out whether it is over.

Retries of each call by itself would be a flood at an endpoint that is down, and a long outage would use up
the waiting of every turn. So the waiting is counted once, for the outage, and those who wait take turns.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.errors import PermitStoppedError
from safemt_client.providers.limits.permits import Limiter
from safemt_client.providers.pauses import PAUSES
from safemt_client.providers.types import Outcome, Reply

__all__ = ["Outage", "says_of_endpoint"]

_IN_A_ROW = 3
_LONGEST_PAUSE_S = 60.0
_LAST_PROBE_S = 1.0
_NO_TIME_S = 1e-6  # what rounding leaves


def says_of_endpoint(reply: Reply) -> bool:
    """Whether a failure that is tried again says that the endpoint does not answer."""
    return reply.status_code != 429 and reply.error_code is not ErrorCode.LOCAL_SHORTAGE


class Outage:
    """Whether a target answers at present, from what came back of its requests.

    It does not once several in a row have failed (half of the calls in flight, at least 3) in a way that is
    tried again. Then one request is let through at a time, after longer and longer pauses, each time another
    one: what makes a single request fail must not hold up all others. The first success lets everybody
    through, and the account's calls in flight grow again from a few. After `max_wait_s` without a success
    nobody waits any more, so that each request is tried once and ends.
    """

    def __init__(self, limiter: Limiter, max_wait_s: float) -> None:
        self._limiter = limiter
        self._max_wait_s = max_wait_s
        self._turnstile = anyio.Lock()
        self._changed = anyio.Event()
        self._in_line = 0
        self._failures = 0
        self._since: float | None = None
        self._probing = False
        self._pauses = 0
        self._next = -math.inf
        self._given_up = False
        self._stopped = False
        self.answered = 0
        """Requests that were answered so far."""
        limiter.on_stop.append(self.stop)

    @property
    def left_s(self) -> float:
        """Seconds for which the outage is still waited for; all of them while there is none."""
        if self._since is None:
            return self._max_wait_s
        return self._max_wait_s - (self._now() - self._since)

    @property
    def closed(self) -> bool:
        """Whether requests wait for the one that probes."""
        many = self._failures >= max(_IN_A_ROW, self._limiter.limit // 2)
        return many and not self._given_up and self.left_s > _NO_TIME_S

    @property
    def busy(self) -> bool:
        """Whether a request may have to wait before it is sent."""
        return self._in_line > 0 or self.closed

    async def admit(self) -> bool:
        """Wait until a request may be sent; whether it is the one that probes.

        Raises:
            PermitStoppedError: the session is ending.
        """
        self._in_line += 1
        # The clock may have moved for who stands at the front.
        self._changed.set()
        try:
            async with self._turnstile:
                while self.closed and not self._stopped:
                    pause = self._next - self._limiter.clock()
                    if not self._probing and pause <= _NO_TIME_S:
                        self._probing = True
                        return True
                    self._changed = anyio.Event()
                    with anyio.move_on_after(self.left_s if self._probing else min(pause, self.left_s)):
                        await self._changed.wait()
                if self._stopped:
                    raise PermitStoppedError("the session is ending")
                return False
        finally:
            self._in_line -= 1

    @contextmanager
    def probe(self) -> Iterator[None]:
        """While the request that probes is under way."""
        try:
            yield
        finally:
            self._probing = False
            self._changed.set()

    def learn(self, reply: Reply, *, probe: bool) -> None:
        """An attempt has ended; `probe` if it was let through as one."""
        if reply.outcome is not Outcome.ERROR_TRANSIENT:
            self._answers(reply)
            return
        was_closed = self.closed
        # A limit of requests a minute is no outage: the endpoint is there. Nor is what is missing here.
        if says_of_endpoint(reply):
            self._failures += 1
            if self._since is None:
                self._since = self._now()
        if self.closed and (probe or not was_closed):
            self._pause(reply)

    def _answers(self, reply: Reply) -> None:
        self.answered += reply.outcome.observed
        if self.closed:
            self._limiter.begin_anew()
        self._failures, self._pauses, self._since = 0, 0, None
        if self._in_line:
            self._changed.set()

    def give_up(self) -> None:
        """The target is stopped: nobody waits any more."""
        self._given_up = True
        self._changed.set()

    def pause_s(self, reply: Reply, back_off_s: float) -> float:
        """Seconds until the request that this came back for is tried again."""
        if reply.retry_after_s is not None and reply.retry_after_s >= 1:
            return reply.retry_after_s
        pause = max(0.0, self._next - self._limiter.clock()) if self.closed else back_off_s
        return min(pause, max(0.0, self.left_s) + _LAST_PROBE_S)

    def is_over(self, reply: Reply) -> bool:
        """Whether the request that this came back for is given up."""
        # A wait that ends shortly after the limit is worth it: the outage may end within it.
        beyond_s = min(_LONGEST_PAUSE_S, self._max_wait_s / 10)
        return self.left_s <= 0 or (reply.retry_after_s or 0.0) > self.left_s + beyond_s

    def stop(self) -> None:
        """Nothing more is sent: whoever waits is told."""
        self._stopped = True
        self._changed.set()

    def _now(self) -> float:
        """The time without pauses of this process: nothing was asked in them."""
        return self._limiter.clock() - PAUSES.lost_s

    def _pause(self, reply: Reply) -> None:
        """Set the time of the next probe. Little jitter is needed: it is one request."""
        pause = min(2.0**self._pauses, _LONGEST_PAUSE_S) * random.uniform(0.75, 1)
        self._pauses = min(self._pauses + 1, 10)
        pause = min(pause, self.left_s + _LAST_PROBE_S)
        self._next = self._limiter.clock() + max(pause, reply.retry_after_s or 0.0)
