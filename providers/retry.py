"""The one retry loop: what is transient is asked again, until a limit of waiting or of money is reached."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext

import anyio
import tenacity

from safemt_client.providers.alike import passes
from safemt_client.providers.errors import TargetStoppedError
from safemt_client.providers.outage import Outage, says_of_endpoint
from safemt_client.providers.provider import Observer
from safemt_client.providers.responses.outcomes import fatal
from safemt_client.providers.types import Outcome, Reply

__all__ = ["with_retries"]

_BACKOFF = tenacity.wait_random_exponential(multiplier=1, max=60)
_MOST_BILLED = 3
# A request that fails so often in words of its own, while others are answered, is what is wrong itself.
_MOST_OF_ITS_OWN = 10


class _Waiting:
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
        reply = _reply_of(state)
        if self._outage is not None and says_of_endpoint(reply):
            return self._outage.pause_s(reply, _BACKOFF(state))
        if reply.retry_after_s is not None and reply.retry_after_s >= 1:
            return reply.retry_after_s
        # A wait of zero or close to it: endless retries at that pace would flood an endpoint.
        return max(reply.retry_after_s or 0.0, _BACKOFF(state))

    def stop(self, state: tenacity.RetryCallState) -> bool:
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


async def with_retries(
    attempt: Callable[[], Awaitable[Reply]],
    *,
    max_wait_s: float,
    on_retry: Observer | None = None,
    outage: Outage | None = None,
    within: Callable[[], AbstractContextManager[object]] = nullcontext,
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
) -> Reply:
    """Ask until the reply is not transient, or no more waiting is allowed.

    That is the case when the next wait would pass `max_wait_s` in all, or, while the target answers nobody,
    when its `outage` has lasted as long; and after the third attempt that was billed without a result. Each
    wait is in a context of `within`.

    Raises:
        TargetStoppedError: the reply shows that no further request can succeed.
    """

    async def checked() -> Reply:
        reply = await attempt()
        if reason := fatal(reply):
            raise TargetStoppedError(reason, reply)
        return reply

    answered = 0 if outage is None else outage.answered
    first: Reply | None = await checked()
    assert first is not None
    if first.outcome is not Outcome.ERROR_TRANSIENT:
        return first
    waiting = _Waiting(max_wait_s, outage, answered)

    # Setting up a retry costs more than a whole call, and most calls need none: it begins here.
    async def again() -> Reply:
        nonlocal first
        reply, first = first, None
        return reply or await checked()

    async def pause(seconds: float) -> None:
        with within():
            await sleep(seconds)

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
