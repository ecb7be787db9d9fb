"""A model behind an OpenAI-compatible chat endpoint, hosted or local, over plain HTTP."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from safemt_client.providers.chat_format import ChatFormat
from safemt_client.providers.http import HttpEndpoint
from safemt_client.providers.outcomes import classify_response
from safemt_client.providers.rates import rate_limits
from safemt_client.providers.types import Reply, Request

__all__ = ["OpenAICompatible"]

_MAX_BODY = 32 * 2**20
_REASONING_MODEL = re.compile(r"^(o\d|gpt-5)")


class OpenAICompatible(HttpEndpoint):
    """Asks `POST {base_url}/chat/completions`. Retries are its own; the client's are off."""

    def __init__(self, **options: Any) -> None:
        """`options` are those of `HttpEndpoint`."""
        super().__init__("/chat/completions", most=_MAX_BODY, **options)
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
        # OpenAI's reasoning models take another name for the limit and no temperature of ours.
        if self._identity.startswith("openai/") and _REASONING_MODEL.match(self._model):
            body.pop("temperature", None)
            if "max_tokens" in body:
                body["max_completion_tokens"] = body.pop("max_tokens")
        if request.response_schema is not None:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": request.response_schema},
            }
        return body
