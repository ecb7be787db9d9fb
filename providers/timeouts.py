"""How long a request may take: each attempt, the waits between them, and the turn as a whole."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

import anyio

from safemt_client.providers.blocks import Block, Cancellable
from safemt_client.providers.pauses import PAUSES

__all__ = ["DEFAULT_TIMEOUTS", "Deadline", "Timeouts", "TurnOverError", "TurnTime"]

_LATE_S = 0.05


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits in seconds; each holds on its own."""

    max_wait_s: float = 3600
    """Of waiting between the attempts of a turn, and for an outage of the target to end."""
    attempt_s: float = 180
    """Of one attempt, from when it is sent."""
    turn_s: float = 7200
    """Of all attempts of a turn, with the waits for permits and between them, outages left out."""


DEFAULT_TIMEOUTS = Timeouts()


class Deadline:
    """A block that is cancelled after so many seconds; the caller then finds it `expired`.

    Pauses of the process do not count. Where this loop was held up otherwise, what has arrived meanwhile is
    read before the block ends.
    """

    def __init__(self, seconds: float, scope: Cancellable | None = None) -> None:
        """`scope` is how it is cancelled: by default a scope of anyio's."""
        self._scope = scope or anyio.CancelScope()
        self._seconds = seconds
        self._until = math.inf
        self._lost = 0.0
        self._forgiven = False
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._scope.__enter__()
        self._arm(self._seconds)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self._disarm()
        return bool(self._scope.__exit__(kind, error, trace))

    @property
    def expired(self) -> bool:
        """Whether the block was cancelled because its time was up."""
        return self._scope.cancelled_caught

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._until, self._lost = self._loop.time() + seconds, PAUSES.lost_s
        if seconds < math.inf:
            self._timer = self._loop.call_later(max(0.0, seconds), self._due)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        more = PAUSES.lost_s - self._lost
        if not self._forgiven and (late := self._loop.time() - self._until) > _LATE_S:
            # Of one turn of the loop the timers may come before what has been received.
            self._forgiven = True
            more = max(more, late)
        if more > 0:
            self._arm(more)
        else:
            self._scope.cancel()


class TurnOverError(Exception):
    """The time of a turn is up."""


class TurnTime:
    """The time that a turn has left, pauses of the process left out.

    It is only looked at where a turn waits. Each attempt and each wait has a `Deadline` of its own, so that
    an attempt is under one, and not under two of which one is hardly ever due.
    """

    def __init__(self, seconds: float) -> None:
        self._clock = asyncio.get_running_loop().time
        self._until = self._now() + seconds

    def _now(self) -> float:
        return self._clock() - PAUSES.lost_s

    @property
    def left_s(self) -> float:
        """Seconds, at least 0."""
        return max(0.0, self._until - self._now())

    def extend(self, seconds: float) -> None:
        """Give it so much more time."""
        self._until += seconds

    @contextmanager
    def held(self) -> Iterator[None]:
        """What happens within takes none of it."""
        begin = self._now()
        try:
            yield
        finally:
            self._until += self._now() - begin

    def limited(self) -> _OfTurn:
        """What waits within, for the network or a timer, is cancelled once the time is up.

        Raises:
            TurnOverError: it was.
        """
        return _OfTurn(self.left_s, Block())


class _OfTurn(Deadline):
    """What is left of a turn."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> Literal[False]:
        super().__exit__(kind, error, trace)
        if self.expired:
            raise TurnOverError from None
        return False
