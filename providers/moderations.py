"""OpenAI's moderation endpoint as a `Provider`, so that its adapter is asked like any other guard's model."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import anyio

from safemt_client.providers.http import HttpEndpoint
from safemt_client.providers.limits.rates import rate_limits
from safemt_client.providers.responses.outcomes import classify_response
from safemt_client.providers.types import Image, Outcome, Reply, Request, Usage

__all__ = ["ModerationEndpoint"]


class ModerationEndpoint(HttpEndpoint):
    """Asks `POST {base_url}/moderations`; the reply's text is the body as it came.

    Source: https://platform.openai.com/docs/api-reference/moderations. The endpoint is free of charge.
    """

    path = "/moderations"
    max_body = 2**20

    async def _send(self, request: Request) -> Reply:
        images = [image for message in request.messages for image in message.images]
        parts: list[dict[str, Any]] = [
            {"type": "text", "text": "\n".join(message.text for message in request.messages)}
        ]
        parts += [{"type": "image_url", "image_url": {"url": await _data_url(image)}} for image in images]
        sent = {"model": self._model, "input": parts} | self._options.filled(request.sampling.extra)
        response = await self._post(request, sent)
        if isinstance(response, Reply):
            return response
        if response.status != 200:
            reply = classify_response(
                response.status, response.headers, response.body, request=request, model=self._model
            )
            return replace(self._redactor.reply(reply), rate_limits=rate_limits(response.headers))
        return Reply(
            Outcome.ANSWERED,
            text=response.body.decode("utf-8", "replace"),
            status_code=200,
            usage=Usage(cost_usd=0.0),
            rate_limits=rate_limits(response.headers),
        )


async def _data_url(image: Image) -> str:
    data = await anyio.to_thread.run_sync(image.load)
    return f"data:{image.media_type};base64,{base64.b64encode(data).decode()}"
