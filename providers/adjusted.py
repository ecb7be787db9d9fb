"""A model that is asked with parameters of the user's own in place of its caller's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from safemt_client.providers.provider import Observer, Provider, ProviderWrapper
from safemt_client.providers.types import Message, Reply, Request

__all__ = ["Adjusted"]


class Adjusted(ProviderWrapper):
    """A provider whose requests get these parameters, by the fields of `Sampling`, and a system message."""

    def __init__(self, provider: Provider, parameters: Mapping[str, Any], system: str | None = None) -> None:
        super().__init__(provider)
        self._parameters = dict(parameters)
        self._extra = self._parameters.pop("extra", {})
        self._system = system

    async def ask(self, request: Request, on_retry: Observer | None = None) -> Reply:
        """See `Provider.ask`."""
        return await self._provider.ask(self.adjusted(request), on_retry)

    def adjusted(self, request: Request) -> Request:
        """The request as the model gets it."""
        extra = dict(request.sampling.extra) | self._extra
        sampling = replace(request.sampling, **self._parameters, extra=extra)
        before = () if self._system is None else (Message("system", self._system),)
        return replace(request, messages=(*before, *request.messages), sampling=sampling)
