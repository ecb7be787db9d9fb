"""Messages in the form of OpenAI's chat endpoint: an image is a data URL, before the text.

A data URL is built once for the lengths of its item, which run near each other.
"""

from __future__ import annotations

import base64
from collections import OrderedDict
from typing import Any, Literal

import anyio

from safemt_client.providers.types import Image, Message, Request

__all__ = ["ChatFormat", "ImageFormat"]

ImageFormat = Literal["object", "string"]
"""How the address of an image is given: as OpenAI does, in an object `{"url": ...}`, or as it is."""


class ChatFormat:
    """Formats requests; keeps the data URLs that were used last, `most` characters of them."""

    def __init__(self, images: ImageFormat = "object", *, most: int = 16 * 2**20) -> None:
        self._images = images
        self._most = most
        self._kept: OrderedDict[str, str] = OrderedDict()
        self._size = 0

    async def messages(self, request: Request, *, with_reasoning: bool = False) -> list[dict[str, Any]]:
        """The messages of a request, the model's own turns `with_reasoning` if the endpoint demands it.

        Where their reasoning is not known, as for a turn of the data set, it is empty.
        """
        messages = [
            await self._with_images(message)
            if message.images
            else {"role": message.role, "content": message.text}
            for message in request.messages
        ]
        if with_reasoning:
            for message, formatted in zip(request.messages, messages, strict=True):
                if message.role == "assistant":
                    formatted["reasoning_content"] = message.reasoning or ""
        return messages

    async def _with_images(self, message: Message) -> dict[str, Any]:
        urls = [await self._data_url(image) for image in message.images]
        parts: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": url if self._images == "string" else {"url": url}}
            for url in urls
        ]
        parts.append({"type": "text", "text": message.text})
        return {"role": message.role, "content": parts}

    async def _data_url(self, image: Image) -> str:
        if (kept := self._kept.get(image.sha256)) is not None:
            self._kept.move_to_end(image.sha256)
            return kept
        # In a thread: reading may mean decoding and scaling.
        url = await anyio.to_thread.run_sync(_build, image)
        if image.sha256 not in self._kept:
            self._kept[image.sha256] = url
            self._size += len(url)
        while self._size > self._most and len(self._kept) > 1:
            self._size -= len(self._kept.popitem(last=False)[1])
        return url


def _build(image: Image) -> str:
    return f"data:{image.media_type};base64,{base64.b64encode(image.load()).decode()}"
