"""What came back over HTTP: litellm's exceptions and completions leave out half of that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any

import httpx

from safemt_client.providers.json_codec import as_dict, loads

__all__ = ["Received", "finish_reason_of", "patch", "received"]


class Received:
    """What came back last, if anything did."""

    def __init__(self) -> None:
        self._response: httpx.Response | None = None

    def add(self, response: httpx.Response) -> None:
        """Remember a response whose body is not read yet."""
        self._response = response

    @property
    def status(self) -> int | None:
        """Its status, None without a response."""
        return None if self._response is None else self._response.status_code

    @property
    def headers(self) -> dict[str, str]:
        """Its headers, names in lower case."""
        return {} if self._response is None else {n.lower(): v for n, v in self._response.headers.items()}

    @property
    def body(self) -> bytes:
        """Its body, as far as litellm has read it."""
        try:
            return b"" if self._response is None else self._response.content
        except httpx.ResponseNotRead:
            return b""


_RECEIVED: ContextVar[Received | None] = ContextVar("received", default=None)


@contextmanager
def received() -> Iterator[Received]:
    """What comes back for the requests that are sent within."""
    found = Received()
    token = _RECEIVED.set(found)
    try:
        yield found
    finally:
        _RECEIVED.reset(token)


def finish_reason_of(body: bytes) -> str | None:
    """Why a reply ended, in the vendor's own word: litellm calls a failure or a block a `stop` at times."""
    try:
        content = as_dict(loads(body))
    except ValueError:
        return None
    candidates = content.get("candidates")
    first = as_dict(candidates[0]) if isinstance(candidates, list) and candidates else {}
    stated = (
        content.get("stop_reason"),  # Anthropic
        content.get("stopReason"),  # Bedrock
        content.get("finish_reason"),  # Cohere
        first.get("finishReason"),  # Gemini
    )
    return next((reason for reason in stated if isinstance(reason, str)), None)


async def _remember(response: httpx.Response) -> None:
    found = _RECEIVED.get()
    if found is not None:
        found.add(response)


def patch() -> None:
    """Let litellm's clients follow no redirects, and tell what came back.

    httpx would carry `x-api-key` and the like to any other host.
    """
    import litellm
    from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler
    from litellm.llms.openai.common_utils import BaseOpenAILLM

    begin, open_client = AsyncHTTPHandler.__init__, BaseOpenAILLM._get_async_http_client

    @wraps(begin)
    def begin_otherwise(self: Any, *args: Any, **options: Any) -> None:
        begin(self, *args, **options)
        # For clients that it opens later, too.
        self.follow_redirects = False
        self.event_hooks = {**(self.event_hooks or {}), "response": [_remember]}
        _set(self.client)

    @wraps(open_client)
    def open_otherwise(*args: Any, **options: Any) -> Any:
        client = open_client(*args, **options)
        if client is not None:
            _set(client)
        return client

    AsyncHTTPHandler.__init__ = begin_otherwise  # type: ignore[method-assign]
    BaseOpenAILLM._get_async_http_client = staticmethod(open_otherwise)  # type: ignore[method-assign]
    # Its import has opened some already, and keeps them for the loop that runs.
    opened: Any = litellm.in_memory_llm_clients_cache
    opened.flush_cache()


def _set(client: httpx.AsyncClient) -> None:
    client.follow_redirects = False
    client.event_hooks = {**client.event_hooks, "response": [_remember]}
