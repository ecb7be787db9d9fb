"""US dollars that a run may cost, with its resumes: a conversation begins only if it can be paid to its end.

The cap is soft: calls in flight land and are judged. Each started call is set aside at the mean price of
those before it, so that the cap is passed by no more than the error of that mean.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

import anyio

__all__ = ["Budget"]

# The price before any call has landed counts as so many calls.
_PRIOR = 5


class Budget:
    """Money of one run. `first` is the price of a call, for each target and the judge, until one has landed.

    `spent` is what earlier sessions of the run have cost; `cap_usd` None is no cap.
    """

    def __init__(self, cap_usd: float | None, *, spent: float, first: Mapping[str, float]) -> None:
        self._cap = math.inf if cap_usd is None else cap_usd
        self._spent = spent
        self._mean = dict(first)
        self._seen: Counter[str] = Counter()
        self._set_aside: Counter[str] = Counter()
        self._changed = anyio.Event()

    @property
    def spent(self) -> float:
        """US dollars so far, earlier sessions included."""
        return self._spent

    async def reserve(self, calls: Mapping[str, int]) -> bool:
        """Set money aside for these calls, by key; False once they can no longer be paid.

        Waits while it depends on calls under way, which may turn out cheaper than set aside for.
        """
        while not self.try_reserve(calls):
            if not self._set_aside.total():
                return False
            # One event for all who wait: each wake makes the next one new.
            if self._changed.is_set():
                self._changed = anyio.Event()
            await self._changed.wait()
        return True

    def try_reserve(self, calls: Mapping[str, int]) -> bool:
        """The same without waiting: False if they cannot be paid at present."""
        if self._spent + self.usd(self._set_aside) + self.usd(calls) > self._cap:
            return False
        self.set_aside(calls)
        return True

    def set_aside(self, calls: Mapping[str, int]) -> None:
        """Set money aside for calls that are under way already, whatever the cap."""
        self._set_aside.update(calls)

    def release(self, calls: Mapping[str, int]) -> None:
        """Give back what was set aside for calls that are not made."""
        self._set_aside.subtract(calls)
        self._changed.set()

    def landed(self, key: str, cost_usd: float | None, *, free: bool = False) -> None:
        """A call has ended. One of unknown cost counts as the mean, unless it surely was `free`."""
        mean = self._mean.get(key, 0.0)
        paid = cost_usd if cost_usd is not None else 0.0 if free else mean
        self._spent += paid
        if cost_usd is not None:
            self._seen[key] += 1
            self._mean[key] = mean + (paid - mean) / (_PRIOR + self._seen[key])
        self.release({key: 1})

    def spend(self, key: str, cost_usd: float | None, *, free: bool = False) -> None:
        """A call has ended for which nothing was set aside; like `landed`, but releases nothing."""
        self.set_aside({key: 1})
        self.landed(key, cost_usd, free=free)

    def usd(self, calls: Mapping[str, int]) -> float:
        """What these calls, by key, would take at the mean prices so far."""
        return sum(count * self._mean.get(key, 0.0) for key, count in calls.items())
