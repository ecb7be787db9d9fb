"""Batches of Anthropic's Messages API; requests and replies are translated by litellm, as single calls are.

Source: Anthropic's API reference, "Message Batches".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import anyio
import httpx

from safemt_client.providers.batch.base import (
    BatchEndpoint,
    BatchRefusedError,
    BatchState,
    RemoteBatch,
    as_count,
    moment,
    read_lines,
)
from safemt_client.providers.behind_litellm.client import LiteLLM, from_anthropic, to_anthropic
from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.errors import SafemtError
from safemt_client.providers.json_codec import as_dict, dumps
from safemt_client.providers.provider import Observer
from safemt_client.providers.responses.error_body import one_line
from safemt_client.providers.responses.outcomes import classify_response
from safemt_client.providers.types import Outcome, Reply, Request

__all__ = ["AnthropicBatches"]

_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}


class AnthropicBatches(BatchEndpoint):
    """Batches of the model that `provider` asks one by one."""

    def __init__(
        self,
        provider: LiteLLM,
        *,
        model: str,
        base_url: str,
        api_key: str,
        transport: httpx.AsyncBaseTransport,
        max_wait_s: float,
    ) -> None:
        headers = {"x-api-key": api_key, "anthropic-version": "2023-06-01"}
        super().__init__(
            base_url=base_url,
            headers=headers,
            transport=transport,
            max_wait_s=max_wait_s,
            secret=api_key,
            client=provider,
        )
        self._provider = provider
        self._model = model

    async def encode(self, custom_id: str, request: Request) -> bytes:
        """One entry of `requests`."""
        self._remember(custom_id, request)
        messages, options = await self._provider.arguments(request)
        # In a thread: the first call imports litellm, which takes seconds.
        try:
            params = await anyio.to_thread.run_sync(to_anthropic, self._model, messages, options)
        except SafemtError as error:
            raise BatchRefusedError(str(error), code=ErrorCode.BAD_REQUEST) from None
        return dumps({"custom_id": custom_id, "params": params})

    async def submit(self, mark: str, lines: Sequence[bytes], on_retry: Observer | None = None) -> str:
        """Begin a batch. Anthropic does not store our name for it."""
        content = b'{"requests":[' + b",".join(lines) + b"]}"
        return await self._begin("/v1/messages/batches", content, on_retry)

    async def list_since(self, since: datetime) -> list[RemoteBatch]:
        """The account's batches since then."""

        def read(batch: dict[str, Any]) -> RemoteBatch:
            total = sum(as_count(count) for count in as_dict(batch.get("request_counts")).values())
            return RemoteBatch(batch["id"], moment(batch.get("created_at")), total)

        return await self._list("/v1/messages/batches", "after_id", since, read)

    async def state(self, batch_id: str) -> BatchState:
        """How far the batch is."""
        batch = await self._call_json("GET", f"/v1/messages/batches/{batch_id}")
        counts = {name: as_count(count) for name, count in as_dict(batch.get("request_counts")).items()}
        total = sum(counts.values())
        ended = batch.get("processing_status") == "ended"
        return BatchState("ended" if ended else "running", total - counts.get("processing", 0), total)

    async def results(self, batch_id: str, requests: Mapping[str, Request]) -> dict[str, Reply]:
        """What the results hold; those of expired and cancelled requests can be asked again."""
        # Not `results_url`: the key goes only to the address that the user named.
        body = await self._call("GET", f"/v1/messages/batches/{batch_id}/results")
        return self._complete(
            (custom_id, _reply(as_dict(line.get("result")), requests.get(custom_id), self._model))
            for line in read_lines([body])
            if isinstance(custom_id := line.get("custom_id"), str)
        )


def _reply(result: dict[str, Any], request: Request | None, model: str) -> Reply:
    kind, message = result.get("type"), result.get("message")
    if kind == "succeeded" and isinstance(message, dict):
        return from_anthropic(message)
    if kind == "errored":
        outer = as_dict(result.get("error"))
        said = as_dict(outer.get("error", outer))
        status = _STATUS.get(str(said.get("type")), 500)
        return classify_response(status, {}, dumps({"error": said}), request=request, model=model)
    return Reply(
        Outcome.ERROR_TRANSIENT,
        error=one_line(f"the request was {kind}"),
        error_code=ErrorCode.BATCH_INCOMPLETE,
        raw=dumps(result).decode(),
    )
