"""When a task begins: as its account has room for it, no more than it soon can send."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Self

import anyio

from safemt_client.providers.limits.permits import Limiter

__all__ = ["Admission"]

_Work = tuple[Callable[..., Awaitable[None]], tuple[object, ...]]


class Admission:
    """Starts work as its account has room for it: no more than it soon can send.

    Workers that have nothing to do wait for the next piece of work: one that begins anew costs several times
    as much as the hand-over.
    """

    def __init__(self, limiter: Limiter, on_started: Callable[[], None] = lambda: None) -> None:
        """`on_started` is told once no more work is to be started."""
        self._limiter, self._on_started = limiter, on_started
        self._group = anyio.create_task_group()
        self._idle: list[asyncio.Future[_Work | None]] = []
        self._open = 0
        self._ended = anyio.Event()
        self._closing = False

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> bool | None:
        self._closing = True
        self._on_started()
        for idle in self._idle:
            if not idle.done():
                idle.set_result(None)
        return await self._group.__aexit__(*error)

    async def start(self, task: Callable[..., Awaitable[None]], *arguments: object) -> bool:
        """Start a piece of work once there is room; False if the session is ending."""
        # Calls waiting for a retry or a commit hold no permit: free permits alone would set no limit. Of an
        # endpoint that answers within the time of a commit, as many wait for that as are in flight.
        while self._open >= 3 * self._limiter.limit + 8:
            self._ended = anyio.Event()
            await self._ended.wait()
        if not await self._limiter.room():
            return False
        self._open += 1
        while self._idle:
            # Those that are done were cancelled, as the whole group is then.
            if not (idle := self._idle.pop()).done():
                idle.set_result((task, arguments))
                break
        else:
            self._group.start_soon(self._work, task, arguments)
        # Let it come as far as its permit, so that the next look sees it wait there.
        await asyncio.sleep(0)
        return True

    async def _work(self, task: Callable[..., Awaitable[None]], arguments: tuple[object, ...]) -> None:
        """Do this piece of work, and after it whatever else there is."""
        more: _Work | None = (task, arguments)
        while more is not None:
            task, arguments = more
            try:
                await task(*arguments)
            finally:
                self._open -= 1
                self._ended.set()
            if self._closing:
                break
            idle: asyncio.Future[_Work | None] = asyncio.get_running_loop().create_future()
            self._idle.append(idle)
            more = await idle
