"""A provider under watch: who fails at every request is stopped, however the server words it.

What cannot succeed is known only by looking at several requests. So this stands between the session and a
provider, and not in the provider, which a server uses as well: there one client's wrong requests must not
stop it for all others.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from safemt_client.judges.judge import add_usage
from safemt_client.providers.alike import Alike, every_request_fails
from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.errors import TargetStoppedError
from safemt_client.providers.pauses import PAUSES
from safemt_client.providers.provider import Observer, Provider, ProviderWrapper
from safemt_client.providers.types import Reply, Request, Usage

__all__ = ["WatchedProvider"]

_GIVEN_UP = 10
_LONG_S = 600.0
_WAITS_OF_A_PERIOD = 2


class WatchedProvider(ProviderWrapper):
    """A provider that stops with the server's own words once nothing that it is asked can succeed.

    That is the case when its failures are all alike (`providers.alike`), when two waits in a row for a limit
    by the day brought nothing, and when ten requests in a row were given up in an outage of ten minutes or
    more.
    `requests` is the number of all that will be asked, where it is known.
    """

    def __init__(self, provider: Provider, clock: Callable[[], float], *, in_one: bool = False) -> None:
        """With `in_one` the tokens of attempts that were billed are added to those of the last one.

        That is for whose attempts are not stored one by one: judges and guards.
        """
        super().__init__(provider)
        self._clock = clock
        self._in_one = in_one
        self._alike = Alike()
        self._stopped: TargetStoppedError | None = None
        self._deciding: Request | None = None
        self._given_up = 0
        self._failing_since = math.inf
        self._period_until = -math.inf
        self._period_waits = 0
        self.requests: int | None = None
        self.doubtful = False
        """Whether ten requests were too large, so that the smallest one left has to decide."""

    async def ask(self, request: Request, on_retry: Observer | None = None) -> Reply:
        """See `Provider.ask`."""

        billed: Usage | None = None

        def retrying(reply: Reply, wait_s: float) -> None:
            nonlocal billed
            if reply.billed and self._in_one:
                billed = add_usage(billed or Usage(), reply.usage)
            self._failed(request, reply, last=False)
            if on_retry is not None:
                on_retry(reply, wait_s)

        if self._stopped is not None:
            raise self._stopped.repeated()
        reply = await self._provider.ask(request, retrying)
        if billed is not None:
            reply = reply.but(usage=add_usage(billed, reply.usage))
        if not reply.outcome.observed:
            self._failed(request, reply, last=True)
            return reply
        self._alike.succeeded()
        self.doubtful = False
        self._given_up, self._failing_since = 0, math.inf
        self._period_until, self._period_waits = -math.inf, 0
        return reply

    def decide_by(self, request: Request) -> None:
        """If this request, the smallest left, is too large as well, all are."""
        self._deciding = request

    def _failed(self, request: Request, reply: Reply, *, last: bool) -> None:
        """Take note of a failed attempt.

        Raises:
            TargetStoppedError: nothing can succeed.
        """
        self._alike.failed(reply, request, last=last)
        self._failing_since = min(self._failing_since, self._clock() - PAUSES.lost_s)
        self._given_up += last
        why = self._of_a_period(reply) or self._of_an_outage(reply) or self._of_its_kind(request, reply)
        if why is not None:
            self._stopped = TargetStoppedError(why, reply)
            raise self._stopped

    def _of_its_kind(self, request: Request, reply: Reply) -> str | None:
        if not self._alike.many and (self.requests is None or not self._alike.all_of(self.requests)):
            return None
        whose = "every request"
        if reply.error_code is ErrorCode.REQUEST_TOO_LARGE:
            if request is not self._deciding:
                self.doubtful = self._alike.many
                return None
            whose = "every request, the smallest one left too,"
        return every_request_fails(reply, whose)

    def _of_a_period(self, reply: Reply) -> str | None:
        if reply.error_code is not ErrorCode.PERIOD_LIMIT or reply.retry_after_s is None:
            return None
        now = self._clock()
        # Calls in flight together are refused together: only what came after a wait counts.
        if now >= self._period_until:
            self._period_waits += self._period_until > -math.inf
            self._period_until = now + reply.retry_after_s
        if self._period_waits < _WAITS_OF_A_PERIOD:
            return None
        return f"quota used up (HTTP {reply.status_code}), twice waited for in vain: {reply.error}"

    def _of_an_outage(self, reply: Reply) -> str | None:
        failing_s = self._clock() - PAUSES.lost_s - self._failing_since
        if self._given_up < _GIVEN_UP or failing_s < _LONG_S:
            return None
        return f"nothing was answered for {failing_s / 60:.0f} min, at last: {reply.error}"
