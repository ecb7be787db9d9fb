"""OpenAI's moderation endpoint as a `Provider`, so that its adapter is asked like any other guard's model."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import anyio
import httpx

from safemt_client.providers.endpoint import Endpoint
from safemt_client.providers.json_codec import dumps
from safemt_client.providers.keys import Redactor
from safemt_client.providers.outcomes import classify_response, one_line
from safemt_client.providers.rates import rate_limits
from safemt_client.providers.transport import BodyTooLargeError, ConnectionFailedError, fetch, make_headers
from safemt_client.providers.types import Image, Outcome, Reply, Request, Usage

__all__ = ["ModerationEndpoint"]

_MAX_BODY = 2**20


class ModerationEndpoint(Endpoint):
    """Asks `POST {base_url}/moderations`; the reply's text is the body as it came.

    Source: https://platform.openai.com/docs/api-reference/moderations. The endpoint is free of charge.
    """

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
        self._url = httpx.URL(base_url.rstrip("/") + "/moderations")
        self._headers = make_headers(self._url, content_type="application/json")
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._redactor = Redactor(api_key)
        self._transport = transport

    async def _send(self, request: Request) -> Reply:
        images = [image for message in request.messages for image in message.images]
        parts: list[dict[str, Any]] = [
            {"type": "text", "text": "\n".join(message.text for message in request.messages)}
        ]
        parts += [{"type": "image_url", "image_url": {"url": await _data_url(image)}} for image in images]
        try:
            response = await fetch(
                self._transport,
                "POST",
                self._url,
                headers=self._headers,
                content=dumps({"model": self._model, "input": parts}),
                most=_MAX_BODY,
            )
        except BodyTooLargeError as error:
            return Reply(Outcome.ERROR_PERMANENT, error=str(error), status_code=error.status)
        except ConnectionFailedError as error:
            return Reply(Outcome.ERROR_TRANSIENT, error=one_line(self._redactor.text(str(error))))
        body = self._redactor.body(response.body)
        if response.status != 200:
            reply = classify_response(response.status, response.headers, body)
            return replace(reply, rate_limits=rate_limits(response.headers))
        return Reply(
            Outcome.ANSWERED,
            text=body.decode("utf-8", "replace"),
            status_code=200,
            usage=Usage(cost_usd=0.0),
            rate_limits=rate_limits(response.headers),
        )


async def _data_url(image: Image) -> str:
    data = await anyio.to_thread.run_sync(image.load)
    return f"data:{image.media_type};base64,{base64.b64encode(data).decode()}"
