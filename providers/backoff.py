"""The loop of a request that has failed once: how long it waits, and when it gives up.

A module of its own, since most runs need none: it is loaded at the first failure.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from itertools import count

from safemt_client.providers.alike import passes
from safemt_client.providers.outage import Outage, says_of_endpoint
from safemt_client.providers.provider import Observer
from safemt_client.providers.types import Outcome, Reply

__all__ = ["Waiting", "repeat"]

_LONGEST_S = 60.0
_MOST_BILLED = 3
# A request that fails so often in words of its own, while others are answered, is what is wrong itself.
_MOST_OF_ITS_OWN = 10


def _backoff_s(failed: int) -> float:
    """Seconds to wait after so many failures: doubled each time, and anything below that, at random."""
    return random.uniform(0, min(2.0 ** min(failed - 1, 30), _LONGEST_S))


class Waiting:
    """Waits and stops of one request: Retry-After of the current error, else jittered back-off.

    Its own waiting is limited, unless the target answers nobody: then that of the outage is.
    """

    def __init__(self, max_wait_s: float, outage: Outage | None, answered: int) -> None:
        """`answered` is how many requests the target had answered before this one was sent."""
        self._left_s = max_wait_s
        self._outage = outage
        self._answered = answered
        self._billed = 0
        self._own = 0

    def wait_s(self, reply: Reply, failed: int) -> float:
        """Seconds until it is asked again, after so many failures of which this reply is the last."""
        if self._outage is not None and says_of_endpoint(reply):
            return self._outage.pause_s(reply, _backoff_s(failed))
        if reply.retry_after_s is not None and reply.retry_after_s >= 1:
            return reply.retry_after_s
        # A wait of zero or close to it: endless retries at that pace would flood an endpoint.
        return max(reply.retry_after_s or 0.0, _backoff_s(failed))

    def stops(self, reply: Reply, wait_s: float) -> bool:
        """Whether it is given up, instead of waiting for so many seconds."""
        self._billed += reply.billed
        if self._billed >= _MOST_BILLED:
            return True
        if self._outage is not None and says_of_endpoint(reply):
            answered, self._answered = self._answered, self._outage.answered
            if answered == self._answered:
                return self._outage.is_over(reply)
            # Others were answered meanwhile.
            self._own += not passes(reply)
            if self._own >= _MOST_OF_ITS_OWN:
                return True
        if wait_s > self._left_s:
            return True
        self._left_s -= wait_s
        return False


async def repeat(
    first: Reply,
    attempt: Callable[[], Awaitable[Reply]],
    waiting: Waiting,
    pause: Callable[[float], Awaitable[None]],
    on_retry: Observer | None,
) -> Reply:
    """Ask until the reply is not transient, as `first` was, or `waiting` stops; `pause` waits seconds."""
    reply = first
    for failed in count(1):
        if reply.outcome is not Outcome.ERROR_TRANSIENT:
            break
        wait_s = waiting.wait_s(reply, failed)
        if waiting.stops(reply, wait_s):
            break
        if on_retry is not None:
            on_retry(reply, wait_s)
        await pause(wait_s)
        reply = await attempt()
    return reply
