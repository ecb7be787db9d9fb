"""What every client of a model offers, and what the wrappers around one share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from safemt_client.providers.types import Reply, Request

if TYPE_CHECKING:
    from safemt_client.providers.limits.permits import Limiter

__all__ = ["Observer", "Provider", "ProviderWrapper"]


Observer = Callable[[Reply, float], None]
"""Called with an attempt that will be repeated and the seconds until then."""


class Provider(Protocol):
    """A model that can be asked. Implementations are safe to share between tasks."""

    @property
    def identity(self) -> str:
        """Provider and model, such as `openai/gpt-4o`: goes into the request hash."""
        ...

    @property
    def limiter(self) -> Limiter:
        """The limiter of the account that is asked."""
        ...

    async def ask(self, request: Request, on_retry: Observer | None = None) -> Reply:
        """Ask once, with retries; return the last attempt's reply.

        Endpoint failures are outcomes, not exceptions.

        Raises:
            TargetStoppedError: authentication, quota or model name is wrong, so that
                no further request to this target can succeed.
        """
        ...


class ProviderWrapper(ABC):
    """A `Provider` that changes how another one is asked, and by default has the same identity."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    @property
    def identity(self) -> str:
        """Provider and model."""
        return self._provider.identity

    @property
    def limiter(self) -> Limiter:
        """The limiter of the account."""
        return self._provider.limiter

    @abstractmethod
    async def ask(self, request: Request, on_retry: Observer | None = None) -> Reply:
        """See `Provider.ask`."""
