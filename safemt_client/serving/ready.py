"""What a server is asked about itself: whether it is ours and has our model, and what it did."""

from __future__ import annotations

from enum import Enum

import httpx
from yarl import URL

from safemt_client.providers.addresses import url_of
from safemt_client.providers.json_codec import dumps, loads
from safemt_client.providers.transport import (
    BodyTooLargeError,
    ConnectionFailedError,
    Response,
    UnreadableBodyError,
    fetch,
    make_headers,
)
from safemt_client.serving.metrics import Metrics, read_metrics

__all__ = ["Answer", "ask", "metrics_of"]

_MOST_BYTES = 1 << 20


class Answer(Enum):
    """What is at a port; the value is a message about a start that ends with it."""

    READY = "ready"
    NOTHING = "does not answer"
    KEYLESS = "it answers without its key: something else may have taken its port"
    REFUSES = "it refuses its key: something else may have taken its port"
    OTHER_MODEL = "it serves other models than {model}"


async def ask(
    transport: httpx.AsyncBaseTransport, base_url: str, model: str | None, key: str | None
) -> Answer:
    """Ask a server for its models, and whether it takes our key and no request without it.

    Some servers list their models for everybody, so an empty chat request is what proves the key. It is
    refused as such once the key is accepted.
    """
    listed = await _send(transport, "GET", base_url, "/models", key)
    if model is None and key is None and listed is not None and listed.status != 503:
        # transformers' server lists the hub's cache, and fails where there is none.
        return Answer.READY
    if listed is None or listed.status >= 500 or listed.status == 404:
        return Answer.NOTHING
    if listed.status in (401, 403):
        return Answer.REFUSES
    if listed.status != 200 or (model is not None and model not in _models(listed.body)):
        return Answer.OTHER_MODEL
    if key is None:
        return Answer.READY
    for given, accepted, wrong in ((None, False, Answer.KEYLESS), (key, True, Answer.REFUSES)):
        asked = await _send(transport, "POST", base_url, "/chat/completions", given)
        if asked is None or asked.status == 503:
            return Answer.NOTHING
        if (asked.status not in (401, 403)) is not accepted:
            return wrong
    return Answer.READY


async def metrics_of(transport: httpx.AsyncBaseTransport, base_url: str, key: str | None) -> Metrics | None:
    """What a server says of its work, None if it does not."""
    found = await _send(transport, "GET", base_url.removesuffix("/v1"), "/metrics", key)
    return (
        None if found is None or found.status != 200 else read_metrics(found.body.decode("utf-8", "replace"))
    )


async def _send(
    transport: httpx.AsyncBaseTransport, method: str, base_url: str, path: str, key: str | None
) -> Response | None:
    url = url_of(base_url, path)
    headers = make_headers(url, content_type="application/json")
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    content = dumps({}) if method == "POST" else None
    try:
        return await fetch(
            transport, method, URL(str(url)), headers=headers, content=content, most=_MOST_BYTES
        )
    except (ConnectionFailedError, BodyTooLargeError, UnreadableBodyError):
        return None


def _models(body: bytes) -> set[str]:
    try:
        content = loads(body)
        return {str(one["id"]) for one in content["data"]}
    except (ValueError, KeyError, TypeError):
        return set()
