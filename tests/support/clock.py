"""Virtual time: an event loop on which a sleep takes no time, and the clock jumps to the next timer."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _JumpingSelector(selectors.SelectSelector):
    jump: Callable[[float], None]

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        if found:
            return found
        if timeout is None:
            raise RuntimeError("nothing is left that could happen: a deadlock")
        self.jump(timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop with a clock of its own, which begins at 0.

    `grain` is how late each timer fires, in seconds. A real clock moves on by itself; code that relies on that
    waits forever if a rounding error leaves nothing to wait for.
    """

    def __init__(self, grain: float = 0.0) -> None:
        self.now = 0.0
        self.grain = grain
        selector = _JumpingSelector()
        selector.jump = self._jump
        super().__init__(selector)

    def _jump(self, seconds: float) -> None:
        self.now += seconds + self.grain

    def time(self) -> float:
        return self.now


def run(main: Callable[[], Coroutine[Any, Any, T]], grain: float = 0.0) -> T:
    """Run a coroutine function in virtual time."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(grain)) as runner:
        return runner.run(main())


class IdleLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock moves only while there is nothing to do: however slow the machine, work takes no time.

    Sockets whose both ends are on this loop and threads work as ever; sleeps take a moment.
    """

    def __init__(self) -> None:
        self.now = 0.0
        selector = _IdleSelector()
        selector.jump = self._jump
        super().__init__(selector)

    def _jump(self, seconds: float) -> None:
        self.now += seconds

    def time(self) -> float:
        return self.now


class _IdleSelector(selectors.DefaultSelector):
    jump: Callable[[float], None]
    grace_s = 0.002  # in which the kernel passes on what was sent, and threads end what they do

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(timeout if timeout is None else min(timeout, self.grace_s))
        if not found and timeout:
            self.jump(timeout)
        return found


class HurriedLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock runs fast: a sleep of a minute takes a second. Sockets and threads work as ever."""

    speed = 60

    def __init__(self) -> None:
        selector = _HurriedSelector()
        selector.speed = self.speed
        super().__init__(selector)

    def time(self) -> float:
        return super().time() * self.speed


class _HurriedSelector(selectors.DefaultSelector):
    speed: float

    def select(self, timeout: float | None = None) -> Any:
        return super().select(None if timeout is None else timeout / self.speed)
