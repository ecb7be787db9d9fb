"""The demo's models behind the batch routes of OpenAI and Anthropic, in a process of its own.

    python batch_server.py PORTFILE COUNTFILE HELDFILE POINT [DELAY]

Each completion is a line of COUNTFILE. The first request that comes to POINT ("before POST /v1/batches", "after ...":
done, but not answered; "sent ...": answered; "... #2": the second one) writes HELDFILE and is never let go; those
after it are served. With DELAY each request takes up to so many seconds before it is done, and again before it is
answered.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
from aiohttp import web

from safemt_client.demo.batches import BatchRoutes
from safemt_client.demo.endpoint import _Demo

SECONDS = 0.3


class AnthropicRoutes:
    """Message batches. They have no name of the client's, as with the vendor."""

    def __init__(self, complete: Any) -> None:
        self.complete = complete
        self.batches: list[dict[str, Any]] = []

    def add_to(self, app: web.Application) -> None:
        app.router.add_post("/v1/messages/batches", self.create)
        app.router.add_get("/v1/messages/batches", self.list)
        app.router.add_get("/v1/messages/batches/{id}", self.retrieve)
        app.router.add_get("/v1/messages/batches/{id}/results", self.results)

    async def create(self, request: web.Request) -> web.Response:
        assert request.headers["x-api-key"] == "key"
        assert request.headers["anthropic-version"]
        self.add((await request.json())["requests"], [])
        lines = self.batches[-1]["lines"]
        for asked in self.batches[-1].pop("asked"):
            lines.insert(0, {"custom_id": asked["custom_id"], "result": await self.answer(asked["params"])})
        return web.json_response(self.shown(self.batches[-1]))

    def add(self, asked: list[Any], lines: list[Any]) -> None:
        self.batches.append(
            {
                "id": f"msgbatch_{len(self.batches) + 1}",
                "created_at": datetime.now(UTC).isoformat(),
                "ready": time.monotonic() + SECONDS,
                "total": len(asked) or len(lines),
                "asked": asked,
                "lines": lines,
            }
        )

    async def answer(self, params: dict[str, Any]) -> dict[str, Any]:
        messages = [
            {"role": m["role"], "content": " ".join(part.get("text", "") for part in m["content"])}
            for m in params["messages"]
        ]
        _, found = await self.complete({"model": params["model"], "messages": messages})
        message = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": params["model"],
            "content": [{"type": "text", "text": found["choices"][0]["message"]["content"]}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": 1000, "output_tokens": 100},
        }
        return {"type": "succeeded", "message": message}

    def shown(self, batch: dict[str, Any]) -> dict[str, Any]:
        ended = time.monotonic() >= batch["ready"]
        counts = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
        counts["succeeded" if ended else "processing"] = batch["total"]
        status = "ended" if ended else "in_progress"
        kept = {name: batch[name] for name in ("id", "created_at")}
        return kept | {"processing_status": status, "request_counts": counts}

    async def list(self, request: web.Request) -> web.Response:
        shown = [self.shown(batch) for batch in reversed(self.batches)]
        return web.json_response({"data": shown, "has_more": False})

    def found(self, request: web.Request) -> dict[str, Any]:
        return next(batch for batch in self.batches if batch["id"] == request.match_info["id"])

    async def retrieve(self, request: web.Request) -> web.Response:
        return web.json_response(self.shown(self.found(request)))

    async def results(self, request: web.Request) -> web.Response:
        return web.Response(text="\n".join(json.dumps(line) for line in self.found(request)["lines"]))


async def main(port_file: Path, count_file: Path, held_file: Path, point: str, delay_s: float) -> None:
    demo, rng = _Demo(0.0), random.Random(1)

    async def complete(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        model = body["model"]
        with count_file.open("a") as file:
            file.write(f"{model} {hashlib.sha256(json.dumps(body['messages']).encode()).hexdigest()}\n")
        return await demo.complete(body | {"model": "demo-judge" if "judge" in model else "demo"})

    place, _, nth = point.partition(" #")
    seen = 0

    async def hold(here: str) -> None:
        nonlocal seen
        seen += here == place
        if here == place and seen == int(nth or 1) and not held_file.exists():
            held_file.touch()
            await anyio.sleep_forever()

    @web.middleware
    async def held(request: web.Request, handler: Any) -> web.StreamResponse:
        resource = request.match_info.route.resource
        where = f"{request.method} {resource.canonical if resource is not None else 'nowhere'}"
        await hold(f"before {where}")
        await anyio.sleep(rng.uniform(0, delay_s))
        response: web.StreamResponse = await handler(request)
        await anyio.sleep(rng.uniform(0, delay_s))
        await hold(f"after {where}")
        with contextlib.suppress(ConnectionError):  # Whoever asked was killed meanwhile.
            await response.prepare(request)
            await response.write_eof()
        await hold(f"sent {where}")
        return response

    async def chat(request: web.Request) -> web.Response:
        status, content = await complete(await request.json())
        return web.json_response(content, status=status)

    app = web.Application(middlewares=[held], client_max_size=2**28)
    app.router.add_post("/v1/chat/completions", chat)
    BatchRoutes(complete, SECONDS).add_to(app)
    anthropic = AnthropicRoutes(complete)
    # A batch of another program on the same account, of the size that ours will have.
    anthropic.add([], [{"custom_id": f"other-{n}", "result": {"type": "expired"}} for n in range(20)])
    anthropic.add_to(app)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    partial = port_file.with_suffix(".part")
    partial.write_text(str(runner.addresses[0][1]))
    partial.rename(port_file)
    await anyio.sleep_forever()


if __name__ == "__main__":
    port, counts, held_, point_, *delay = sys.argv[1:]
    anyio.run(main, Path(port), Path(counts), Path(held_), point_, float(delay[0]) if delay else 0.0)
