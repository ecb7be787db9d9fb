"""A model of a plan: it has its identity and its limits, and is never asked."""

from __future__ import annotations

from dataclasses import dataclass

from safemt_client.providers.limits.permits import Limiter
from safemt_client.providers.provider import Observer
from safemt_client.providers.types import Reply, Request

__all__ = ["Planned"]


@dataclass(frozen=True)
class Planned:
    """A `Provider` in the place of a client, which takes longer to load than most plans take to make."""

    identity: str
    limiter: Limiter

    async def ask(self, request: Request, on_retry: Observer | None = None) -> Reply:
        """Nobody asks it.

        Raises:
            RuntimeError: somebody does.
        """
        raise RuntimeError(f"{self.identity}: a plan asks nothing")
