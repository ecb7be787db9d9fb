"""Rows on their way to the writer, and the word back that they are committed.

A run stores hundreds of rows a second. A thread-safe future and a wake-up of the event loop for each of them
cost more than the row itself: so those who wait in a loop are told together, once for each commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress

from safemt_client.results.store.rows import Row

__all__ = ["Handed", "Watch", "tell"]

Watch = Callable[[Sequence[Row]], None]
"""Told of rows that are committed."""


class Handed:
    """Rows that one caller has handed over; `done` is what it waits for, in its `loop` or without one."""

    __slots__ = ("done", "loop", "rows")

    def __init__(self, rows: Sequence[Row], loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.rows = rows
        self.loop = loop
        self.done: asyncio.Future[None] | Future[None] = Future() if loop is None else loop.create_future()

    @property
    def size(self) -> int:
        """How many such hand-overs it stands for."""
        return 1

    async def wait(self) -> None:
        """Return once the rows are committed, for a caller in the loop.

        Raises:
            StoreError: they are not.
        """
        assert isinstance(self.done, asyncio.Future)
        await self.done

    def committed(self) -> Sequence[Row]:
        """The rows that the store has by it."""
        return self.rows

    def result(self) -> None:
        """The same for a caller without a loop."""
        assert isinstance(self.done, Future)
        self.done.result()


def tell(batch: Iterable[Handed], error: Exception | None, watchers: Sequence[Watch]) -> None:
    """Say to all who wait that their rows are committed, or why not; to be called by the writer's thread.

    `watchers` are told first, in the loop that the rows come from. A waiter that was cancelled meanwhile has
    cancelled its future: its rows are stored anyway.
    """
    of_loops: dict[asyncio.AbstractEventLoop, list[Handed]] = {}
    for handed in batch:
        if handed.loop is not None:
            of_loops.setdefault(handed.loop, []).append(handed)
        elif isinstance(handed.done, Future) and handed.done.set_running_or_notify_cancel():
            _settle(handed, error)
    for loop, those in of_loops.items():
        # A loop that is closed has nobody left who waits.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_in_loop, those, error, watchers)


def _in_loop(those: Sequence[Handed], error: Exception | None, watchers: Sequence[Watch]) -> None:
    if error is None and watchers:
        rows = [row for handed in those for row in handed.committed()]
        try:
            for watcher in tuple(watchers):
                watcher(rows)
        except Exception as wrong:  # noqa: BLE001 - whoever has handed the rows over is to be told
            error = wrong
    for handed in those:
        if not handed.done.done():
            _settle(handed, error)


def _settle(handed: Handed, error: Exception | None) -> None:
    if error is None:
        handed.done.set_result(None)
    else:
        handed.done.set_exception(error)
