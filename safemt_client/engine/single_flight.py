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
        self._under_way: dict[str, anyio.Event] = {}

    @asynccontextmanager
    async def claim(self, key: str) -> AsyncIterator[None]:
        """Wait until nobody else asks this, and be the one who does."""
        while (other := self._under_way.get(key)) is not None:
            await other.wait()
        done = self._under_way[key] = anyio.Event()
        try:
            yield
        finally:
            del self._under_way[key]
            done.set()
