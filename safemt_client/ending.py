"""What a session tells of itself: while it goes on, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from safemt_client.providers.types import Usage

__all__ = ["Ending", "Listener"]


class Listener(Protocol):
    """Told of what happens, for the display; `key` is a target's or the judge's key."""

    def asking(self, key: str) -> None:
        """A turn or a verdict was begun."""

    def retrying(self, key: str, reason: str, wait_s: float) -> None:
        """An attempt failed and will be repeated after `wait_s` seconds."""

    def landed(self, key: str, outcome: str, usage: Usage, cost_usd: float | None) -> None:
        """A turn or a verdict is in the store; `outcome` is an outcome, a label or `abandoned`."""

    def batch(self, key: str, batch_key: str, done: int, total: int) -> None:
        """How far a batch of the target is; all 0 when it is over."""

    def stopped(self, key: str, reason: str) -> None:
        """A target or the judge cannot be asked any more."""


@dataclass
class Ending:
    """How a session ended. `stopped` maps a target's or the judge's key to the reason.

    `capped` says that something was not begun because the run's money is spent.
    """

    interrupted: bool = False
    capped: bool = False
    stopped: dict[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether everything of the plan was asked."""
        return not self.interrupted and not self.capped and not self.stopped
