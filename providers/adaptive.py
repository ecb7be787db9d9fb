"""How many calls an account may have in flight, found out by asking: slow start, growth, cuts.

Additive increase and multiplicative decrease as in TCP's congestion control, with the fast way back to the
last known ceiling and the search beyond it of CUBIC (RFC 9438).
"""

from __future__ import annotations

import math

__all__ = ["Concurrency"]

_CUT = 0.85
_HOLD_S = 5.0


class Concurrency:
    """The number of calls in flight that an account takes at present.

    `start` and `most` bound it: with `start == most` it begins at the user's own figure, and only
    comes down when the endpoint says that it is too much. Times are in seconds.
    """

    def __init__(self, *, start: int, most: int) -> None:
        self._limit = float(min(start, most))
        self._most = most
        self._ceiling = math.inf
        self._last_cut = float("-inf")
        self._hold_until = float("-inf")

    @property
    def limit(self) -> int:
        """Calls that may be in flight now, at least 1."""
        return max(1, int(self._limit + 1e-9))

    def succeeded(self, now: float, *, saturated: bool) -> None:
        """A call came back well; `saturated` if all permits were in use. Only then is there cause to grow."""
        if not saturated or now < self._hold_until or self._limit >= self._most:
            return
        if self._limit < 0.9 * self._ceiling or self._limit > 1.1 * self._ceiling:
            # Far from the last ceiling, or none known yet: up by half in the time of one call.
            step = 1.0 if self._ceiling == math.inf else 0.5
        else:
            # Near it: the time of one call adds 1, and a little more the larger the limit is.
            step = max(1.0, 0.02 * self._limit) / self._limit
        self._limit = min(self._most, self._limit + step)

    def overloaded(self, now: float, *, started: float) -> bool:
        """The endpoint refused a call for load (429, 503, 529). Tells whether the limit was cut.

        One cut answers for all calls that began before it: they saw the same overload.
        """
        if started <= self._last_cut:
            return False
        self._ceiling = self._limit
        self._limit = max(1.0, self._limit * _CUT)
        self._last_cut = now
        return True

    def faulted(self, now: float) -> None:
        """The endpoint failed otherwise (500, 502, 504, a broken connection): do not grow for a while."""
        self._hold_until = max(self._hold_until, now + _HOLD_S)
