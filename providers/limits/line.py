"""Those who wait for a permit: first come, first served, as many at once as there are permits.

Who waits is woken up once, with the permit. A lock and an event for each of them cost as much as sending
what they wait to send.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from safemt_client.providers.errors import PermitStoppedError
from safemt_client.providers.limits.permits import Permit

__all__ = ["Line"]


@dataclass(eq=False, slots=True)
class _Waiter:
    tokens: float
    given: asyncio.Future[Permit]


class Line:
    """A line before an account.

    `wait_s` is how long it takes until the next permit can be given: None if that depends on something else,
    after which `serve` is called. `take` makes a permit for so many tokens, and `give_back` takes one that
    was not used.
    """

    def __init__(
        self,
        wait_s: Callable[[], float | None],
        take: Callable[[float], Permit],
        give_back: Callable[[Permit], None],
    ) -> None:
        self._wait_s, self._take, self._give_back = wait_s, take, give_back
        self._waiters: deque[_Waiter] = deque()
        self._lookers: list[asyncio.Future[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self.closed = False

    def __len__(self) -> int:
        return len(self._waiters)

    async def wait(self, tokens: float) -> Permit:
        """A permit, once it is this caller's turn. Cancelling costs nothing.

        Raises:
            PermitStoppedError: `close` was called before it was given.
        """
        waiter = _Waiter(tokens, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        self.serve()
        try:
            return await waiter.given
        except asyncio.CancelledError:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
                self.serve()
            elif not waiter.given.cancelled() and waiter.given.exception() is None:
                # It was given in the same moment, and is not going to be used.
                self._give_back(waiter.given.result())
            raise

    async def shorter(self, most: Callable[[], int]) -> None:
        """Return once no more than so many wait, or the line is closed."""
        while not self.closed and len(self._waiters) > most():
            looker: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._lookers.append(looker)
            await looker

    def serve(self) -> None:
        """Give what there is, from the front. Whoever is left is served when there is more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiters:
            waiter = self._waiters[0]
            if waiter.given.done():
                pass  # cancelled, and about to hear of it
            elif self.closed:
                waiter.given.set_exception(PermitStoppedError("the session is ending"))
            elif (wait := self._wait_s()) == 0:
                waiter.given.set_result(self._take(waiter.tokens))
            else:
                if wait is not None:
                    self._timer = asyncio.get_running_loop().call_later(wait, self.serve)
                break
            self._waiters.popleft()
        if self._lookers:
            lookers, self._lookers = self._lookers, []
            for looker in lookers:
                if not looker.done():
                    looker.set_result(None)

    def close(self) -> None:
        """Give no more permits: whoever waits gets an error."""
        self.closed = True
        self.serve()
