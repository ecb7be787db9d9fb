"""The demo's replies as streams of server-sent events."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from aiohttp import web

__all__ = ["send_stream"]


async def send_stream(request: web.Request, reply: Mapping[str, Any], *, usage: bool) -> web.StreamResponse:
    """Send a completion word by word; with `usage` the last chunk states it."""
    out = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await out.prepare(request)
    for chunk in _chunks(reply, usage=usage):
        await out.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
    await out.write(b"data: [DONE]\n\n")
    await out.write_eof()
    return out


def _chunks(reply: Mapping[str, Any], *, usage: bool) -> Iterator[dict[str, Any]]:
    frame = {name: reply[name] for name in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    if usage:
        frame["usage"] = None
    (choice,) = reply["choices"]
    for delta in _deltas(choice["message"]):
        yield frame | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    yield frame | {"choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]}
    if usage:
        yield frame | {"choices": [], "usage": reply["usage"]}


def _deltas(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    calls = message.get("tool_calls") or ()
    yield {"role": "assistant", "content": None if calls else ""}
    for word in re.findall(r"\s*\S+\s*\Z|\s*\S+", message["content"] or ""):
        yield {"content": word}
    for index, call in enumerate(calls):
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        yield {"tool_calls": [call | {"index": index, "function": {"name": name, "arguments": ""}}]}
        for piece in re.findall(r".{1,16}", arguments, re.DOTALL):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
