"""A model behind an OpenAI-compatible chat endpoint, hosted or local, over plain HTTP."""

from __future__ import annotations

import base64
import re
import time
from collections import OrderedDict
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import aiohttp
import anyio
import httpx
import orjson

from safemt_client.providers.limits import AccountLimiter
from safemt_client.providers.outcomes import classify_response, one_line
from safemt_client.providers.retry import with_retries
from safemt_client.providers.types import Image, Message, Observer, Outcome, Reply, Request

__all__ = ["OpenAICompatible"]

_MAX_BODY = 32 * 2**20
_CACHED_IMAGES = 16
_REASONING_MODEL = re.compile(r"^(o\d|gpt-5)")


class OpenAICompatible:
    """Asks `POST {base_url}/chat/completions`. Retries are its own; the client's are off."""

    def __init__(
        self,
        *,
        identity: str,
        model: str,
        base_url: str,
        api_key: str | None,
        client: httpx.AsyncClient,
        limiter: AccountLimiter,
        max_wait_s: float = 3600,
        attempt_timeout_s: float = 180,
        turn_timeout_s: float = 7200,
    ) -> None:
        self._identity = identity
        self._model = model
        self._url = base_url.rstrip("/") + "/chat/completions"
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._key = api_key
        self._client = client
        self._limiter = limiter
        self._max_wait_s = max_wait_s
        self._attempt_timeout_s = attempt_timeout_s
        self._turn_timeout_s = turn_timeout_s
        self._urls: OrderedDict[str, str] = OrderedDict()

    @property
    def identity(self) -> str:
        """Provider and model."""
        return self._identity

    async def ask(self, request: Request, on_retry: Observer | None = None) -> Reply:
        """Ask once, with retries, within the turn's deadline. See `Provider.ask`."""
        last: Reply | None = None

        def remember(reply: Reply, wait_s: float) -> None:
            nonlocal last
            last = reply
            if on_retry is not None:
                on_retry(reply, wait_s)

        with anyio.move_on_after(self._turn_timeout_s):
            return await with_retries(
                lambda: self._attempt(request), max_wait_s=self._max_wait_s, on_retry=remember
            )
        why = f"; last: {last.error}" if last is not None and last.error else ""
        return Reply(
            Outcome.ERROR_TRANSIENT,
            error=f"no answer within {self._turn_timeout_s:g} s, all attempts together{why}",
            started_at=datetime.now(UTC),
        )

    async def aclose(self) -> None:
        """Nothing: the client is shared, and closed by who made it."""

    async def _attempt(self, request: Request) -> Reply:
        async with self._limiter.permit(_tokens(request)):
            body = orjson.dumps(await self._body(request))
            started_at, begin = datetime.now(UTC), time.perf_counter()
            reply = await self._send(body)
        if reply.retry_after_s:
            self._limiter.pause(reply.retry_after_s)
        return replace(reply, started_at=started_at, latency_s=time.perf_counter() - begin)

    async def _send(self, body: bytes) -> Reply:
        try:
            with anyio.fail_after(self._attempt_timeout_s):
                async with self._client.stream(
                    "POST", self._url, content=body, headers=self._headers
                ) as response:
                    received = bytearray()
                    async for chunk in response.aiter_bytes():
                        received += chunk
                        if len(received) > _MAX_BODY:
                            return Reply(
                                Outcome.ERROR_PERMANENT,
                                error=f"the response is larger than {_MAX_BODY} bytes",
                                status_code=response.status_code,
                            )
                reply = classify_response(response.status_code, response.headers, bytes(received))
        except TimeoutError:
            return Reply(Outcome.ERROR_TRANSIENT, error=f"no answer within {self._attempt_timeout_s:g} s")
        except (httpx.HTTPError, aiohttp.ClientError, OSError) as error:
            # The transport's own class names mislead: a dropped connection comes as a time-out.
            text = one_line(f"connection failed: {str(error) or type(error).__name__}")
            return Reply(Outcome.ERROR_TRANSIENT, error=self._redact(text))
        return self._without_key(reply)

    def _without_key(self, reply: Reply) -> Reply:
        if self._key and reply.raw and self._key in reply.raw:
            return replace(
                reply, error=reply.error and self._redact(reply.error), raw=self._redact(reply.raw)
            )
        return reply

    def _redact(self, text: str) -> str:
        return text.replace(self._key, "[key]") if self._key else text

    async def _body(self, request: Request) -> dict[str, Any]:
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
            while len(self._urls) > _CACHED_IMAGES:
                self._urls.popitem(last=False)
        else:
            self._urls.move_to_end(image.sha256)
        return found


def _tokens(request: Request) -> int:
    """Estimated tokens of a request and its answer: four characters a token, 800 an image."""
    text = sum(len(message.text) for message in request.messages) // 4
    images = sum(len(message.images) for message in request.messages)
    return text + 800 * images + (request.sampling.max_tokens or 350)
