"""The routes of OpenAI's batches on the demo endpoint: files, batches and their results, kept in memory."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

__all__ = ["BatchRoutes", "Complete"]

Complete = Callable[[dict[str, Any]], Awaitable[tuple[int, dict[str, Any]]]]
"""Answers one chat completion: the request's body in, status and body out."""


class BatchRoutes:
    """Accepts batches and completes them after `seconds`. Results come in reverse order."""

    def __init__(self, complete: Complete, seconds: float) -> None:
        self._complete = complete
        self._seconds = seconds
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}

    def add_to(self, app: web.Application) -> None:
        """Add the routes below `/v1`."""
        app.router.add_post("/v1/files", self.upload)
        app.router.add_get("/v1/files/{id}/content", self.content)
        app.router.add_post("/v1/batches", self.create)
        app.router.add_get("/v1/batches", self.list)
        app.router.add_get("/v1/batches/{id}", self.retrieve)

    async def upload(self, request: web.Request) -> web.Response:
        """Keep a file."""
        form = await request.post()
        file = form.get("file")
        if form.get("purpose") != "batch" or not isinstance(file, web.FileField):
            return _error(400, "give purpose=batch and a file")
        name = self._keep(file.file.read())
        return web.json_response({"id": name, "object": "file", "filename": file.filename})

    async def create(self, request: web.Request) -> web.Response:
        """Begin a batch."""
        asked = await request.json()
        if asked.get("input_file_id") not in self.files:
            return _error(400, "no such file")
        batch = await self.begin(self.files[asked["input_file_id"]], asked.get("metadata"))
        return web.json_response(self._shown(batch))

    async def begin(self, file: bytes, metadata: object) -> dict[str, Any]:
        """Answer the requests of a file; the answers can be fetched once the time is over."""
        lines: list[str] = []
        failed: list[str] = []
        requests = [json.loads(line) for line in file.splitlines()]
        for asked in requests:
            status, body = await self._complete(asked["body"])
            line = {"custom_id": asked["custom_id"], "response": {"status_code": status, "body": body}}
            (lines if status == 200 else failed).insert(0, json.dumps(line))
        batch: dict[str, Any] = {
            "id": f"batch_{len(self.batches) + 1}",
            "object": "batch",
            "status": "completed",
            "created_at": int(time.time()),
            "metadata": metadata,
            "request_counts": {"total": len(requests), "completed": len(lines), "failed": len(failed)},
            "output_file_id": self._keep("\n".join(lines).encode()) if lines else None,
            "error_file_id": self._keep("\n".join(failed).encode()) if failed else None,
            "ready": time.monotonic() + self._seconds,
        }
        self.batches[batch["id"]] = batch
        return batch

    async def list(self, request: web.Request) -> web.Response:
        """All batches, newest first."""
        shown = [self._shown(batch) for batch in reversed(self.batches.values())]
        return web.json_response({"object": "list", "data": shown, "has_more": False})

    async def retrieve(self, request: web.Request) -> web.Response:
        """One batch."""
        batch = self.batches.get(request.match_info["id"])
        return _error(404, "no such batch") if batch is None else web.json_response(self._shown(batch))

    async def content(self, request: web.Request) -> web.Response:
        """The content of a file."""
        file = self.files.get(request.match_info["id"])
        return _error(404, "no such file") if file is None else web.Response(body=file)

    def _keep(self, content: bytes) -> str:
        name = f"file_{len(self.files) + 1}"
        self.files[name] = content
        return name

    def _shown(self, batch: dict[str, Any]) -> dict[str, Any]:
        shown = {name: value for name, value in batch.items() if name != "ready"}
        if time.monotonic() >= batch["ready"]:
            return shown
        counts = {"total": batch["request_counts"]["total"], "completed": 0, "failed": 0}
        return shown | {
            "status": "in_progress",
            "request_counts": counts,
            "output_file_id": None,
            "error_file_id": None,
        }


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message}}, status=status)
