"""What a worker has to tell the driver: what its display and its log are told of, and which pieces are done.

News are numbered and kept until they are known to have arrived, so that none is lost, or told twice.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from safemt_client.providers.negotiation import Learnt
from safemt_client.providers.types import Reply, Usage
from safemt_client.results.store.rows import AssessmentRow, LimitRow, Row, TurnRow, VerdictRow
from safemt_client.telemetry.events import RuleLine

__all__ = ["Item", "News"]

_GATHER_S = 0.2
"""News come in groups: a call costs as much as some dozens of them."""
_URGENT = frozenset({"begun", "done", "failed", "stopped"})

Item = tuple[str, tuple[Any, ...]]
"""A method of `Listener`, or `saved`, `sent`, `begun`, `done` or `failed`, with its arguments."""


class News:
    """A `Listener` that keeps what it is told; with `rows` also the rows saved, wholly with `texts`."""

    def __init__(self, *, rows: bool = False, texts: bool = False) -> None:
        self._rows, self._texts = rows, texts
        self._items: deque[Item] = deque()
        self._first = 0
        self._come = asyncio.Event()
        self._urgent = asyncio.Event()
        self._last_urgent = -1

    async def after(self, number: int, wait_s: float) -> tuple[int, list[Item]]:
        """What comes after the first `number` news, which have arrived; and how many there are by then.

        Waits a while for some, and then for more unless something is urgent.
        """
        while self._first < number and self._items:
            self._items.popleft()
            self._first += 1
        if not self._items:
            self._come.clear()
        if self._first > self._last_urgent:
            self._urgent.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._come.wait(), wait_s)
            await asyncio.wait_for(self._urgent.wait(), _GATHER_S)
        return self._first + len(self._items), list(self._items)

    def tell(self, what: str, *about: Any) -> None:
        """One more."""
        self._items.append((what, about))
        self._come.set()
        if what in _URGENT:
            self._last_urgent = self._first + len(self._items) - 1
            self._urgent.set()

    def asking(self, key: str) -> None:
        """See `Listener`."""
        self.tell("asking", key)

    def retrying(self, key: str, reply: Reply, wait_s: float) -> None:
        """See `Listener`."""
        slim = reply.but(text="", raw=None, logprobs=())
        self.tell("retrying", key, slim, wait_s)

    def landed(self, key: str, outcome: str, usage: Usage, cost_usd: float | None) -> None:
        """See `Listener`."""
        self.tell("landed", key, str(outcome), usage, cost_usd)

    def batch(self, key: str, batch_key: str, done: int, total: int) -> None:
        """See `Listener`."""
        self.tell("batch", key, batch_key, done, total)

    def stopped(self, key: str, reason: str, code: str | None, status: int | None) -> None:
        """See `Listener`."""
        self.tell("stopped", key, reason, code, status)

    def learnt(self, learnt: Learnt) -> None:
        """See `Listener`."""
        self.tell("learnt", learnt)

    def decided(self, line: RuleLine) -> None:
        """See `Listener`."""
        self.tell("decided", line)

    def notice(self, text: str) -> None:
        """See `Listener`."""
        self.tell("notice", text)

    def saved(self, rows: Sequence[Row]) -> None:
        """Rows are in the store: those that the driver's log, traces or display want to know of."""
        if self._rows:
            told = [self._slim(row) for row in rows if isinstance(row, _TOLD)]
            if told:
                self.tell("saved", told)

    def _slim(self, row: TurnRow | VerdictRow | AssessmentRow | LimitRow) -> Row:
        if self._texts or isinstance(row, LimitRow):
            return row
        if isinstance(row, TurnRow):
            return replace(row, text="", reasoning=None, raw=None, request="[]")
        if isinstance(row, VerdictRow):
            return replace(row, raw=None, explanation=None)
        return replace(row, raw=None)


_TOLD = (TurnRow, VerdictRow, AssessmentRow, LimitRow)
