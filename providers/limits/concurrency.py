"""How many calls an account may have in flight, found by probing: slow start, growth, cuts.

Additive increase and multiplicative decrease as in TCP's congestion control, with the fast way back to the
last known ceiling and the search beyond it of CUBIC (RFC 9438), and cuts in proportion to the share that was
refused, as DCTCP's (RFC 8257): refusals that come now and then whatever the load do not wear the number down.
"""

from __future__ import annotations

import math

__all__ = ["Concurrency"]

_LEAST_KEPT = 0.85  # of the calls in flight, in the time of one call
_GROWTH = 0.02
_UNCOUNTED = 5
_AFTER_OUTAGE = 2


class Concurrency:
    """The number of calls in flight that an account takes at present.

    `start` and `most` bound it: with `start == most` it begins at the user's own figure, and only
    falls when the endpoint says that it is overloaded. Times are in seconds.
    """

    def __init__(self, *, start: int, most: int) -> None:
        self._limit = float(min(start, most))
        self._most = most
        self._ceiling = math.inf
        self._round = float("-inf")
        self._uncounted = 0

    @property
    def limit(self) -> int:
        """Calls that may be in flight now, at least 1."""
        return max(1, int(self._limit + 1e-9))

    def cap(self, most: int) -> None:
        """There is room for no more than this."""
        self._most = min(self._most, max(1, most))
        self._limit = min(self._limit, float(self._most))

    def bound(self, start: int, most: int) -> None:
        """Other bounds hold now: what only the bound of before held down goes on at `start`."""
        held_down = self._limit >= self._most
        self._most = max(1, most)
        self._limit = float(min(max(self._limit, start) if held_down else self._limit, self._most))

    def succeeded(self, *, saturated: bool) -> None:
        """A call succeeded; `saturated` if all permits were in use. Only then is there reason to grow."""
        if self._uncounted:
            self._uncounted -= 1
            return
        if not saturated or self._limit >= self._most:
            return
        if self._limit < 0.9 * self._ceiling or self._limit > 1.1 * self._ceiling:
            # Far from the last ceiling, or none known yet: up by half in the time of one call.
            step = 1.0 if self._ceiling == math.inf else 0.5
        else:
            # Near it: the time of one call adds 1, and a little more the larger the limit is.
            step = max(1.0, _GROWTH * self._limit) / self._limit
        self._limit = min(self._most, self._limit + step)

    def overloaded(self, now: float, *, started: float) -> None:
        """The endpoint refused a call because of its load, or did not answer it in time.

        Each such call takes one place away. A round holds the calls that began before its first refusal:
        they saw the same overload, and together they take 15 % at most.
        """
        if started > self._round:
            self._round = now
            self._ceiling = self._limit
        self._limit = max(1.0, _LEAST_KEPT * self._ceiling, min(self._limit, self._ceiling) - 1)

    def begin_anew(self) -> None:
        """An outage is over: as many calls as before might be too many at once."""
        self._ceiling = max(self._limit, self._ceiling if self._ceiling < math.inf else self._limit)
        self._limit = min(self._limit, float(_AFTER_OUTAGE))
        self._uncounted = 0

    def faulted(self) -> None:
        """Another failure (500, a broken connection): the next few successes do not raise the limit."""
        self._uncounted = min(self._uncounted + _UNCOUNTED, math.ceil(self._limit))
