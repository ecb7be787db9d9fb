"""When a task begins: as its account has room for it, no more than it soon can send."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Self

import anyio
import anyio.lowlevel

from safemt_client.providers.limits.limiter import AccountLimiter

__all__ = ["Admission"]


class Admission:
    """Starts tasks as their account has room for them: no more than it soon can send."""

    def __init__(self, limiter: AccountLimiter) -> None:
        self._limiter = limiter
        self._group = anyio.create_task_group()
        self._open = 0
        self._ended = anyio.Event()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> bool | None:
        return await self._group.__aexit__(*error)

    async def start(self, task: Callable[..., Awaitable[None]], *arguments: object) -> bool:
        """Start a task once there is room; False if the session is ending."""
        # Calls waiting for a retry or a commit hold no permit: free permits alone would set no limit.
        while self._open >= 2 * self._limiter.limit + 8:
            self._ended = anyio.Event()
            await self._ended.wait()
        if not await self._limiter.room():
            return False

        async def run() -> None:
            try:
                await task(*arguments)
            finally:
                self._open -= 1
                self._ended.set()

        self._open += 1
        self._group.start_soon(run)
        # Let it come as far as its permit, so that the next look sees it wait there.
        await anyio.lowlevel.checkpoint()
        return True
