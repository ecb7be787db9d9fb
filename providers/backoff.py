"""The loop of a request that has failed once: how long it waits, and when it gives up.

A module of its own, since most runs need none: it is loaded at the first failure.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import tenacity

from safemt_client.providers.alike import passes
from safemt_client.providers.outage import Outage, says_of_endpoint
from safemt_client.providers.provider import Observer
from safemt_client.providers.types import Outcome, Reply

__all__ = ["Waiting", "repeat"]

_BACKOFF = tenacity.wait_random_exponential(multiplier=1, max=60)
_MOST_BILLED = 3
# A request that fails so often in words of its own, while others are answered, is what is wrong itself.
_MOST_OF_ITS_OWN = 10


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

    def wait(self, state: tenacity.RetryCallState) -> float:
        """Seconds until it is asked again."""
        reply = _reply_of(state)
        if self._outage is not None and says_of_endpoint(reply):
            return self._outage.pause_s(reply, _BACKOFF(state))
        if reply.retry_after_s is not None and reply.retry_after_s >= 1:
            return reply.retry_after_s
        # A wait of zero or close to it: endless retries at that pace would flood an endpoint.
        return max(reply.retry_after_s or 0.0, _BACKOFF(state))

    def stop(self, state: tenacity.RetryCallState) -> bool:
        """Whether it is given up."""
        reply = _reply_of(state)
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
        if state.upcoming_sleep > self._left_s:
            return True
        self._left_s -= state.upcoming_sleep
        return False


def _reply_of(state: tenacity.RetryCallState) -> Reply:
    assert state.outcome is not None
    reply: Reply = state.outcome.result()
    return reply


async def repeat(
    first: Reply,
    attempt: Callable[[], Awaitable[Reply]],
    waiting: Waiting,
    pause: Callable[[float], Awaitable[None]],
    on_retry: Observer | None,
) -> Reply:
    """Ask until the reply is not transient, as `first` was, or `waiting` stops; `pause` waits seconds."""
    left: Reply | None = first

    async def again() -> Reply:
        nonlocal left
        reply, left = left, None
        return reply or await attempt()

    def before_sleep(state: tenacity.RetryCallState) -> None:
        if on_retry is not None:
            on_retry(_reply_of(state), state.upcoming_sleep)

    retrying = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_result(lambda reply: reply.outcome is Outcome.ERROR_TRANSIENT),
        wait=waiting.wait,
        stop=waiting.stop,
        sleep=pause,
        before_sleep=before_sleep,
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
    )
    result: Reply = await retrying(again)
    return result
