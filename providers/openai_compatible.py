"""A model behind an OpenAI-compatible chat endpoint, hosted or local, over plain HTTP."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import httpx

from safemt_client.providers.chat_format import ChatFormat
from safemt_client.providers.endpoint import Endpoint
from safemt_client.providers.json_codec import dumps
from safemt_client.providers.keys import Redactor
from safemt_client.providers.outcomes import classify_response, one_line
from safemt_client.providers.rates import rate_limits
from safemt_client.providers.transport import (
    BodyTooLargeError,
    ConnectionFailedError,
    fetch,
    make_headers,
)
from safemt_client.providers.types import Outcome, Reply, Request

__all__ = ["OpenAICompatible"]

_MAX_BODY = 32 * 2**20
_REASONING_MODEL = re.compile(r"^(o\d|gpt-5)")


class OpenAICompatible(Endpoint):
    """Asks `POST {base_url}/chat/completions`. Retries are its own; the client's are off."""

    def __init__(
        self,
        *,
        model: str,
        base_url: str,
        api_key: str | None,
        transport: httpx.AsyncBaseTransport,
        **options: Any,
    ) -> None:
        """`options` are those of `Endpoint`."""
        super().__init__(**options)
        self._model = model
        self._url = httpx.URL(base_url.rstrip("/") + "/chat/completions")
        self._headers = make_headers(self._url, content_type="application/json")
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._redactor = Redactor(api_key)
        self._transport = transport
        self._format = ChatFormat()

    async def _send(self, request: Request) -> Reply:
        body = dumps(await self.body(request))
        try:
            response = await fetch(
                self._transport, "POST", self._url, headers=self._headers, content=body, most=_MAX_BODY
            )
        except BodyTooLargeError as error:
            return Reply(Outcome.ERROR_PERMANENT, error=str(error), status_code=error.status)
        except ConnectionFailedError as error:
            return Reply(Outcome.ERROR_TRANSIENT, error=one_line(self._redactor.text(str(error))))
        # Before it is read: a line that is cut to its length could hold half a key.
        body = self._redactor.body(response.body)
        reply = classify_response(response.status, response.headers, body)
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
