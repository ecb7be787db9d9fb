"""A model behind an OpenAI-compatible chat endpoint, hosted or local, over plain HTTP."""

from __future__ import annotations

import base64
import re
from collections import OrderedDict
from dataclasses import replace
from typing import Any

import anyio
import httpx
import orjson

from safemt_client.providers.endpoint import Endpoint
from safemt_client.providers.outcomes import classify_response, one_line
from safemt_client.providers.rates import rate_limits
from safemt_client.providers.transport import (
    BodyTooLargeError,
    ConnectionFailedError,
    base_headers,
    fetch,
)
from safemt_client.providers.types import Image, Message, Outcome, Reply, Request

__all__ = ["OpenAICompatible"]

_MAX_BODY = 32 * 2**20
_CACHED_CHARACTERS = 32 * 2**20
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
        self._headers = base_headers(self._url) | {"Content-Type": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._key = api_key
        self._transport = transport
        self._urls: OrderedDict[str, str] = OrderedDict()
        self._cached = 0

    async def _send(self, request: Request) -> Reply:
        body = orjson.dumps(await self.body(request))
        try:
            response = await fetch(
                self._transport, "POST", self._url, headers=self._headers, content=body, most=_MAX_BODY
            )
        except BodyTooLargeError as error:
            return Reply(Outcome.ERROR_PERMANENT, error=str(error), status_code=error.status)
        except ConnectionFailedError as error:
            return Reply(Outcome.ERROR_TRANSIENT, error=self._redact(one_line(str(error))))
        reply = classify_response(response.status, response.headers, response.body)
        return self._without_key(replace(reply, rate_limits=rate_limits(response.headers)))

    def _without_key(self, reply: Reply) -> Reply:
        if self._key and reply.raw and self._key in reply.raw:
            return replace(
                reply, error=reply.error and self._redact(reply.error), raw=self._redact(reply.raw)
            )
        return reply

    def _redact(self, text: str) -> str:
        return text.replace(self._key, "[key]") if self._key else text

    async def body(self, request: Request) -> dict[str, Any]:
        """The JSON body of a request."""
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [await self._message(message) for message in request.messages],
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

    async def _message(self, message: Message) -> dict[str, Any]:
        if not message.images:
            return {"role": message.role, "content": message.text}
        parts: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": await self._data_url(image)}}
            for image in message.images
        ]
        parts.append({"type": "text", "text": message.text})
        return {"role": message.role, "content": parts}

    async def _data_url(self, image: Image) -> str:
        found = self._urls.get(image.sha256)
        if found is None:
            data = await anyio.to_thread.run_sync(image.load)
            found = f"data:{image.media_type};base64,{base64.b64encode(data).decode()}"
            self._urls[image.sha256] = found
            self._cached += len(found)
            while self._cached > _CACHED_CHARACTERS and len(self._urls) > 1:
                self._cached -= len(self._urls.popitem(last=False)[1])
        else:
            self._urls.move_to_end(image.sha256)
        return found
