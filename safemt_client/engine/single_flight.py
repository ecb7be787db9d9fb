"""Equal requests of a session share one call."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

__all__ = ["SingleFlight"]


class SingleFlight:
    """Requests by their hash: who asks now, and what has been observed in this session (`landed`)."""

    def __init__(self) -> None:
        self.landed: set[str] = set()
        # Most requests are like no other: an event is made once somebody waits for it.
        self._under_way: dict[str, anyio.Event | None] = {}

    @asynccontextmanager
    async def claim(self, key: str) -> AsyncIterator[None]:
        """Wait until nobody else asks this, and be the one who does."""
        while key in self._under_way:
            if (other := self._under_way[key]) is None:
                other = self._under_way[key] = anyio.Event()
            await other.wait()
        self._under_way[key] = None
        try:
            yield
        finally:
            if (done := self._under_way.pop(key)) is not None:
                done.set()
