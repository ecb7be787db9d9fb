"""The one retry loop: what is transient is asked again, until a limit of waiting or of money is reached."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext

import anyio

from safemt_client.providers.errors import TargetStoppedError
from safemt_client.providers.outage import Outage
from safemt_client.providers.provider import Observer
from safemt_client.providers.responses.outcomes import fatal
from safemt_client.providers.types import Outcome, Reply

__all__ = ["with_retries"]


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
    first = await checked()
    if first.outcome is not Outcome.ERROR_TRANSIENT:
        return first
    # What it takes to ask again is loaded and set up only here: most calls need none of it.
    from safemt_client.providers.backoff import Waiting, repeat

    async def pause(seconds: float) -> None:
        with within():
            await sleep(seconds)

    return await repeat(first, checked, Waiting(max_wait_s, outage, answered), pause, on_retry)
