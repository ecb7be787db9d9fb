"""What a session may spend: the money of a run, wherever it is counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from safemt_client.engine.meter import Call, Meter

__all__ = ["Spending"]


class Spending(Protocol):
    """The money of a session, in US dollars; `Budget` is one.

    Two things are counted, as `Budget` explains: what is set aside for conversations, at mean prices, so that
    few of them break off; and what calls in flight are held at, the most that they may cost, so that the cap
    holds. Only `reserve` and `begin` wait.
    """

    @property
    def capped(self) -> bool:
        """Whether there is a cap."""
        ...

    @property
    def spent(self) -> float:
        """What is spent as far as is known here, earlier sessions included: for messages."""
        ...

    async def reserve(
        self, calls: Mapping[str, int], *, slack_usd: float = 0.0, in_batch: str | None = None
    ) -> bool:
        """Set money aside for these calls, by key; False once they can no longer be paid.

        Awaited before a conversation begins, while it depends on calls under way.
        """
        ...

    def try_reserve(
        self, calls: Mapping[str, int], *, slack_usd: float = 0.0, in_batch: str | None = None
    ) -> bool:
        """The same without waiting: False if they cannot be paid at present."""
        ...

    def set_aside(self, calls: Mapping[str, int], *, in_batch: str | None = None) -> None:
        """Set money aside for calls that are under way already, whatever the cap."""
        ...

    def release(self, calls: Mapping[str, int], *, in_batch: str | None = None) -> None:
        """Give back what was set aside for calls that are not made."""
        ...

    def landed(self, key: str, cost_usd: float | None, *, free: bool = False) -> None:
        """A call in a batch has ended; one of unknown cost counts as the mean, unless it was surely free."""
        ...

    def spend(self, usd: float) -> None:
        """A single call has cost so much that nothing was held for."""
        ...

    def settled(self, key: str, cost_usd: float | None) -> None:
        """Something that money was set aside for is over; what it cost was paid call by call."""
        ...

    def learn(self, key: str, cost_usd: float | None) -> None:
        """Take a price into the mean, None for one that is not known."""
        ...

    def usd(self, calls: Mapping[str, int]) -> float:
        """What these calls, by key, would take at the mean prices so far."""
        ...

    async def begin(self, meter: Meter, call: Call) -> float | None:
        """Hold what a call may cost at most; None once the cap leaves no room for that.

        Awaited before each call under a cap. When it returns, the store has the lease for it.
        """
        ...

    def again(self, meter: Meter, call: Call, held: float, paid: float) -> float | None:
        """An attempt was paid for and failed: hold money for the next one, None if there is none."""
        ...

    def end(self, meter: Meter, held: float, paid: float, *, unsure: bool = False) -> None:
        """A call is over: `paid` is spent. `unsure`: the store does not know it."""
        ...
