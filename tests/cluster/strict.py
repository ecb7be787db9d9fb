"""An endpoint that enforces its limit of requests, and counts what it is asked. In a thread."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import anyio
from aiohttp import web
from anyio.from_thread import start_blocking_portal

_BURST_S = 1.0
"""Requests of so many seconds may come at once: its clock and ours do not line up."""


@dataclass
class Strict:
    """What is asked, and how it is answered: after `latency_s`, at `rpm` requests a minute at most."""

    rpm: float | None = None
    latency_s: float = 0.02
    port: int = 0
    refused: int = 0
    times: list[float] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    """From where each of these requests came."""
    at_once: int = 1
    """The first requests are answered once so many have come."""
    _level: float = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def used(self) -> float:
        """The share of the limit that was used from the first to the last request."""
        assert self.rpm is not None
        return (len(self.times) - 1) / (self.times[-1] - self.times[0]) * 60 / self.rpm

    async def chat(self, request: web.Request) -> web.Response:
        body, now = await request.json(), time.monotonic()
        if self.rpm is not None:
            a_second = self.rpm / 60
            since = now - self.times[-1] if self.times else 0.0
            self._level = max(0.0, self._level - since * a_second)
            if self._level + 1 > a_second * _BURST_S:
                self.refused += 1
                return web.json_response({"error": {"message": "rate limit"}}, status=429)
            self._level += 1
        self.times.append(now)
        self.headers.append(request.headers)
        self.ports.append(_port_of(request))
        messages = body["messages"]
        self.asked[hashlib.sha256(json.dumps(messages).encode()).hexdigest()] += 1
        await anyio.sleep(self.latency_s)
        while len(self.times) < self.at_once:
            await anyio.sleep(self.latency_s)
        said = (
            "safe"
            if "judge" in body["model"]
            else f"I would rather talk of {len(str(messages))} other things."
        )
        return web.json_response(
            {
                "model": body["model"],
                "choices": [{"message": {"role": "assistant", "content": said}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 100, "completion_tokens": 100, "total_tokens": 200},
            }
        )


def _port_of(request: web.Request) -> int:
    assert request.transport is not None
    port: int = request.transport.get_extra_info("peername")[1]
    return port


@contextmanager
def strict(rpm: float | None = None, latency_s: float = 0.02) -> Iterator[Strict]:
    """One that is served meanwhile."""
    found = Strict(rpm, latency_s)

    async def serve(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/v1/chat/completions", found.chat)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        found.port = runner.addresses[0][1]
        task_status.started()
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await runner.cleanup()

    with start_blocking_portal() as portal:
        future, _ = portal.start_task(serve)
        try:
            yield found
        finally:
            future.cancel()
