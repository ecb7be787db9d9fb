"""Batches of OpenAI and compatible vendors: upload a file, make a batch of it, download the results.

Source: OpenAI's API reference, "Files" and "Batch".
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import httpx

from safemt_client.providers.addresses import key_headers
from safemt_client.providers.batch.base import (
    BatchEndpoint,
    BatchState,
    RemoteBatch,
    as_count,
    as_list,
    moment,
    read_lines,
)
from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.json_codec import as_dict, dumps
from safemt_client.providers.openai_compatible import OpenAICompatible
from safemt_client.providers.provider import Observer
from safemt_client.providers.responses.error_body import one_line
from safemt_client.providers.types import Outcome, Reply, Request

__all__ = ["OpenAIBatches"]

_MARK = "safemt_batch"
_ENDED = {"completed", "expired", "cancelled"}


class OpenAIBatches(BatchEndpoint):
    """Batches of the model that `provider` asks one by one; the bodies are the same."""

    def __init__(
        self,
        provider: OpenAICompatible,
        *,
        keeps_marks: bool,
        base_url: str,
        api_key: str | None,
        transport: httpx.AsyncBaseTransport,
        max_wait_s: float,
    ) -> None:
        headers = key_headers(base_url, api_key)
        super().__init__(
            base_url=base_url,
            headers=headers,
            transport=transport,
            max_wait_s=max_wait_s,
            secret=api_key,
            client=provider,
        )
        self.keeps_marks = keeps_marks
        self._provider = provider

    async def encode(self, custom_id: str, request: Request) -> bytes:
        """One line of the input file."""
        self._remember(custom_id, request)
        return dumps(
            {
                "custom_id": custom_id,
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": await self._provider.body(request),
            }
        )

    async def submit(self, mark: str, lines: Sequence[bytes], on_retry: Observer | None = None) -> str:
        """Upload the file and begin the batch."""
        boundary = uuid.uuid4().hex
        content = b"\r\n".join(
            [
                f"--{boundary}".encode(),
                b'Content-Disposition: form-data; name="purpose"',
                b"",
                b"batch",
                f"--{boundary}".encode(),
                f'Content-Disposition: form-data; name="file"; filename="{mark}.jsonl"'.encode(),
                b"Content-Type: application/jsonl",
                b"",
                b"\n".join(lines),
                f"--{boundary}--".encode(),
                b"",
            ]
        )
        file = await self._call_json(
            "POST",
            "/files",
            content=content,
            headers={"Content-Type": f"multipart/form-data; boundary={boundary}"},
            on_retry=on_retry,
        )
        return await self._begin(
            "/batches",
            dumps(
                {
                    "input_file_id": file.get("id"),
                    "endpoint": "/v1/chat/completions",
                    "completion_window": "24h",
                    "metadata": {_MARK: mark},
                }
            ),
            on_retry,
        )

    async def list_since(self, since: datetime) -> list[RemoteBatch]:
        """The account's batches since then."""

        def read(batch: dict[str, Any]) -> RemoteBatch:
            total = as_count(as_dict(batch.get("request_counts")).get("total"))
            mark = as_dict(batch.get("metadata")).get(_MARK)
            return RemoteBatch(batch["id"], moment(batch.get("created_at")), total, mark)

        return await self._list("/batches", "after", since, read)

    async def state(self, batch_id: str) -> BatchState:
        """How far the batch is."""
        batch = await self._call_json("GET", f"/batches/{batch_id}")
        counts = as_dict(batch.get("request_counts"))
        done = as_count(counts.get("completed")) + as_count(counts.get("failed"))
        total = as_count(counts.get("total"))
        status = batch.get("status")
        if status == "failed":
            return BatchState("failed", done, total, self._redact(_errors(batch)))
        if status in _ENDED:
            error = None if status == "completed" else f"the batch was {status}"
            return BatchState("ended", done, total, error)
        # A router may use other words; a batch taken for ended too early would be paid for again.
        return BatchState("running", done, total)

    async def results(self, batch_id: str, requests: Mapping[str, Request]) -> dict[str, Reply]:
        """What the output file and the error file hold."""
        batch = await self._call_json("GET", f"/batches/{batch_id}")
        files = [batch.get(name) for name in ("output_file_id", "error_file_id")]
        bodies = [await self._call("GET", f"/files/{file}/content") for file in files if file]
        return self._complete(
            (custom_id, _reply(line, partial(self._provider.read, request=requests.get(custom_id))))
            for line in read_lines(bodies)
            if isinstance(custom_id := line.get("custom_id"), str)
        )


def _reply(line: dict[str, Any], read: Callable[[int, Mapping[str, str], bytes], Reply]) -> Reply:
    """What a line of the results says; `read` reads the response in it."""
    response, error = line.get("response"), line.get("error")
    if isinstance(response, dict) and response.get("body") is not None:
        status = response.get("status_code")
        return read(status if isinstance(status, int) else 200, {}, dumps(response["body"]))
    said = as_dict(error)
    text = one_line(" ".join(str(said[name]) for name in ("code", "message") if said.get(name)))
    # Expired or cancelled before it was processed: that says nothing about the request itself.
    return Reply(
        Outcome.ERROR_TRANSIENT,
        error=text or "no response in the batch",
        error_code=ErrorCode.BATCH_INCOMPLETE,
        raw=dumps(line).decode(),
    )


def _errors(batch: dict[str, Any]) -> str:
    errors = batch.get("errors")
    listed = errors.get("data") if isinstance(errors, dict) else errors
    said = [
        " ".join(str(error[name]) for name in ("code", "message") if error.get(name))
        for error in as_list(listed)
    ]
    return one_line("; ".join(said)) or "no reason given"
