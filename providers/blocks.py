"""A block of a task that can be cancelled by itself: what an anyio scope does, at a tenth of its price.

A turn needs several. It is for blocks that await nothing but the network and timers. A thread that must be
waited for even then, as of a model in this process, is only waited for in a scope of anyio's.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Protocol, Self

__all__ = ["Block", "Cancellable"]


class Cancellable(Protocol):
    """What a `Block` and a scope of anyio's have in common."""

    def cancel(self) -> None:
        """End the block."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> bool | None: ...

    @property
    def cancelled_caught(self) -> bool:
        """Whether the block has ended because of `cancel`."""
        ...


class Block:
    """A block of the current task. `cancel` is called by others, while the task waits; use once.

    As `asyncio.timeout` does it: whoever else cancels the task meanwhile is heard as well.
    """

    __slots__ = ("_before", "_called", "_over", "_task", "cancelled_caught")

    def __init__(self) -> None:
        self._called = self._over = self.cancelled_caught = False

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task, self._before = task, task.cancelling()
        return self

    def cancel(self) -> None:
        """End the block, unless it is over."""
        if not self._called and not self._over:
            self._called = True
            self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> bool:
        self._over = True
        if self._called and self._task.uncancel() <= self._before:
            self.cancelled_caught = isinstance(error, asyncio.CancelledError)
        return self.cancelled_caught
