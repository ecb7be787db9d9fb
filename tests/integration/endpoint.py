"""A counting demo endpoint in a process of its own: `python endpoint.py PORTFILE COUNTFILE`."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import anyio
from aiohttp import web

from safemt_client.demo.endpoint import _answer, _text


async def main(port_file: str, count_file: str) -> None:
    async def chat(request: web.Request) -> web.Response:
        body = await request.json()
        digest = hashlib.sha256(json.dumps(body["messages"]).encode()).hexdigest()
        await anyio.sleep(0.01)
        users = [_text(m["content"]) for m in body["messages"] if m["role"] == "user"]
        message = {"role": "assistant", "content": _answer(users[-1], len(users))}
        response = web.StreamResponse()
        response.content_type = "application/json"
        await response.prepare(request)
        content = {"model": "m", "choices": [{"message": message, "finish_reason": "stop"}]}
        await response.write(json.dumps(content).encode())
        await response.write_eof()
        # Answered: written after the client has the whole reply.
        with Path(count_file).open("a") as file:
            file.write(digest + "\n")
        return response

    app = web.Application(client_max_size=2**26)
    app.router.add_post("/v1/chat/completions", chat)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    Path(port_file).write_text(str(runner.addresses[0][1]))
    await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2])
