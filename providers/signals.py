"""Signals that end a program, heard inside an event loop, also where loops cannot hear them."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from types import FrameType

import anyio

__all__ = ["heard"]

_LOOPS_HEAR = sys.platform != "win32"
"""Whether an event loop takes signals itself; on Windows none does."""


@contextmanager
def heard(*wanted: signal.Signals) -> Iterator[AsyncIterator[signal.Signals]]:
    """Meanwhile these signals do nothing but come out of the iterator, as they arrive."""
    if _LOOPS_HEAR:
        with anyio.open_signal_receiver(*wanted) as receiver:
            yield receiver
        return
    loop, come = asyncio.get_running_loop(), asyncio.Queue[signal.Signals]()

    def tell(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(come.put_nowait, signal.Signals(number))

    before = {one: signal.signal(one, tell) for one in wanted}
    try:
        yield _all_of(come)
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


async def _all_of(come: asyncio.Queue[signal.Signals]) -> AsyncIterator[signal.Signals]:
    while True:
        yield await come.get()
