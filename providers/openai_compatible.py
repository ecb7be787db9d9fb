"""A model behind an OpenAI-compatible chat endpoint, hosted or local, over plain HTTP."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import httpx

from safemt_client.providers.chat_format import ChatFormat
from safemt_client.providers.http import HttpEndpoint
from safemt_client.providers.limits import AccountLimiter
from safemt_client.providers.outcomes import classify_response
from safemt_client.providers.rates import rate_limits
from safemt_client.providers.timeouts import DEFAULT_TIMEOUTS, Timeouts
from safemt_client.providers.types import Reply, Request
from safemt_client.providers.vendors import OWN, Vendor

__all__ = ["OpenAICompatible"]


class OpenAICompatible(HttpEndpoint):
    """Asks `POST {base_url}/chat/completions`. Retries are its own; the client's are off."""

    path = "/chat/completions"
    max_body = 32 * 2**20

    def __init__(
        self,
        *,
        identity: str,
        model: str,
        base_url: str,
        api_key: str | None,
        transport: httpx.AsyncBaseTransport,
        limiter: AccountLimiter,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        vendor: Vendor = OWN,
    ) -> None:
        super().__init__(
            identity=identity,
            model=model,
            base_url=base_url,
            api_key=api_key,
            transport=transport,
            limiter=limiter,
            timeouts=timeouts,
            charging=vendor.charging,
        )
        self._reasons = vendor.reasoning_models is not None and bool(re.match(vendor.reasoning_models, model))
        self._format = ChatFormat()

    async def _send(self, request: Request) -> Reply:
        response = await self._post(await self.body(request))
        if isinstance(response, Reply):
            return response
        reply = classify_response(response.status, response.headers, response.body)
        return replace(reply, rate_limits=rate_limits(response.headers))

    async def body(self, request: Request) -> dict[str, Any]:
        """The JSON body of a request."""
        body: dict[str, Any] = {
            "model": self._model,
            "messages": await self._format.messages(request),
        } | request.sampling.as_dict()
        if self._reasons:
            body.pop("temperature", None)
            if "max_tokens" in body:
                body["max_completion_tokens"] = body.pop("max_tokens")
        if request.response_schema is not None:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": request.response_schema},
            }
        return body
