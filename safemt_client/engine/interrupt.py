"""What may be given up while it waits for a retry."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import anyio

from safemt_client.providers.blocks import Cancellable
from safemt_client.providers.errors import PermitStoppedError
from safemt_client.providers.provider import Observer, Provider, ProviderWrapper
from safemt_client.providers.types import Reply, Request

__all__ = ["InFlight", "InterruptibleProvider"]


@dataclass(eq=False, slots=True)
class InFlight:
    """A request under way: cancelled while it only waits, on the first Ctrl-C or when its target is stopped.

    `key` is the target's, the judge's or the guard's.
    """

    scope: Cancellable
    key: str
    waits_until: float = -math.inf


class InterruptibleProvider(ProviderWrapper):
    """A provider whose calls are given up one by one, by `PermitStoppedError`, while they wait for a retry.

    A moderated turn may have several under way: those in flight land.
    """

    def __init__(
        self, provider: Provider, under_way: set[InFlight], clock: Callable[[], float], key: str
    ) -> None:
        super().__init__(provider)
        self._key = key
        self._under_way = under_way
        self._clock = clock

    async def ask(self, request: Request, on_retry: Observer | None = None) -> Reply:
        """See `Provider.ask`."""
        with anyio.CancelScope() as scope:
            asking = InFlight(scope, self._key)

            def retrying(reply: Reply, wait_s: float) -> None:
                if on_retry is not None:
                    on_retry(reply, wait_s)
                asking.waits_until = self._clock() + wait_s

            self._under_way.add(asking)
            try:
                return await self._provider.ask(request, retrying)
            finally:
                self._under_way.discard(asking)
        raise PermitStoppedError("the session is ending")
