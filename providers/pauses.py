"""Time in which this process did not run: stopped, frozen with its container, or asleep with its machine.

What was asked goes on meanwhile and its answer may be here: a pause uses up no time limit and is in no
latency. Of the clocks, the monotonic one runs on while a process is stopped, and stands still while the
machine sleeps.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import anyio

__all__ = ["PAUSES", "Clocks", "Pauses", "loop_time", "stopwatch"]

_BEAT_S = 0.5
_PAUSE_S = 2.0
_SET_S = 60.0


def loop_time() -> float:
    """The clock of the running loop, in seconds; anyio's takes ten times as long, and fails in callbacks."""
    return asyncio.get_running_loop().time()


def _since_boot() -> float:
    """Seconds since the machine was started, sleep included where its clock tells."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass(frozen=True, slots=True)
class Clocks:
    """Where the time is read, in seconds: `busy` is the process's own computing."""

    running: Callable[[], float] = time.monotonic
    machine: Callable[[], float] = _since_boot
    wall: Callable[[], float] = time.time
    busy: Callable[[], float] = time.process_time

    def read(self) -> tuple[float, float, float, float]:
        """The time by all of them."""
        return self.running(), self.machine(), self.wall(), self.busy()


class Pauses:
    """Notices that much time has passed between two beats although the process had nothing to compute.

    Nothing is noticed unless somebody watches.
    """

    def __init__(self, clocks: Clocks = Clocks()) -> None:
        self._clocks = clocks
        self._notices: list[Callable[[str], object]] = []
        self._seen = clocks.read()
        self._lost = 0.0
        self._lock = threading.Lock()

    @property
    def lost_s(self) -> float:
        """Seconds of the monotonic clock that were spent in pauses so far."""
        if self._notices and self._clocks.running() - self._seen[0] > _BEAT_S + _PAUSE_S:
            # Whoever wakes up first may ask before the next beat.
            self._look()
        return self._lost

    async def watch(self, notice: Callable[[str], object]) -> None:
        """Notice pauses until cancelled; `notice` is given a line about each."""
        with self._lock:
            if not self._notices:
                self._seen = self._clocks.read()
            self._notices.append(notice)
        try:
            while True:
                await anyio.sleep(_BEAT_S)
                self._look()
        finally:
            self._notices.remove(notice)

    def _look(self) -> None:
        with self._lock:
            now = self._clocks.read()
            running, machine, wall, busy = (a - b for a, b in zip(now, self._seen, strict=True))
            self._seen = now
            paused = max(running, machine) - _BEAT_S
            if paused > _PAUSE_S and busy < paused / 2:
                self._lost += max(0.0, running - _BEAT_S)
                line = (
                    f"the process was paused for {_span(paused)} (stopped, or the machine slept): "
                    "that time counts towards no time limit"
                )
            elif abs(wall - max(running, machine)) > _SET_S:
                by = wall - max(running, machine)
                line = (
                    f"this machine's clock was set {'forward' if by > 0 else 'back'} by {_span(abs(by))}: "
                    "no wait and no time limit is changed by that"
                )
            else:
                return
        for notice in tuple(self._notices):
            notice(line)


def _span(seconds: float) -> str:
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


PAUSES = Pauses()
"""Those of this process."""


def stopwatch() -> Callable[[], float]:
    """What gives the seconds since now, pauses left out."""
    begin, lost = time.perf_counter(), PAUSES.lost_s
    return lambda: max(0.0, time.perf_counter() - begin - (PAUSES.lost_s - lost))
