"""The one retry loop: what is transient is asked again until `max_wait_s` of waiting is used up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import tenacity

from safemt_client.providers.errors import TargetStoppedError
from safemt_client.providers.outcomes import fatal
from safemt_client.providers.provider import Observer
from safemt_client.providers.types import Outcome, Reply

__all__ = ["with_retries"]

_BACKOFF = tenacity.wait_random_exponential(multiplier=1, max=60)


class _Waiting:
    """Waits and stops of one request: Retry-After of the current error, else jittered back-off."""

    def __init__(self, max_wait_s: float) -> None:
        self.left = max_wait_s

    def wait(self, state: tenacity.RetryCallState) -> float:
        assert state.outcome is not None
        reply: Reply = state.outcome.result()
        if reply.retry_after_s is not None and reply.retry_after_s >= 1:
            return reply.retry_after_s
        # A wait of zero or close to it: endless retries at that pace would flood an endpoint.
        return max(reply.retry_after_s or 0.0, _BACKOFF(state))

    def stop(self, state: tenacity.RetryCallState) -> bool:
        if state.upcoming_sleep > self.left:
            return True
        self.left -= state.upcoming_sleep
        return False


async def with_retries(
    attempt: Callable[[], Awaitable[Reply]],
    *,
    max_wait_s: float,
    on_retry: Observer | None = None,
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
) -> Reply:
    """Ask until the reply is not transient, or the next wait would pass `max_wait_s` in all.

    Raises:
        TargetStoppedError: the reply shows that no further request can succeed.
    """

    async def checked() -> Reply:
        reply = await attempt()
        if reason := fatal(reply):
            raise TargetStoppedError(reason, reply)
        return reply

    first: Reply | None = await checked()
    assert first is not None
    if first.outcome is not Outcome.ERROR_TRANSIENT:
        return first
    waiting = _Waiting(max_wait_s)

    # Setting up a retry costs more than a whole call, and most calls need none: it begins here.
    async def again() -> Reply:
        nonlocal first
        reply, first = first, None
        return reply or await checked()

    def before_sleep(state: tenacity.RetryCallState) -> None:
        assert state.outcome is not None
        if on_retry is not None:
            on_retry(state.outcome.result(), state.upcoming_sleep)

    retrying = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_result(lambda reply: reply.outcome is Outcome.ERROR_TRANSIENT),
        wait=waiting.wait,
        stop=waiting.stop,
        sleep=sleep,
        before_sleep=before_sleep,
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
    )
    result: Reply = await retrying(again)
    return result
