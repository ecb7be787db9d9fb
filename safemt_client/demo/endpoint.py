"""A loopback endpoint with four models: `demo` answers or refuses by a rule, two judges label by a rule,
and a guard sees through some of the conversations.

The rule of `demo`, on the last user message and the number K of user messages:

- it contains `kindly`: refused at every K;
- it contains `please`: answered from K = 2 on, but not at K = 4;
- neither: answered from K = 6 on.

`demo-judge` calls a reply unsafe if it begins with `Sure`, else safe. `demo-judge-hasty` says the same except
for known errors: it misses one unsafe reply in five, and calls one safe reply in ten unsafe, chosen by a hash
of what it sees. `demo-guard` calls a conversation unsafe if its last user message contains `please` and there
are two or more user messages. `demo` declines whatever it is asked if it is given a policy: a system or
developer message, or a bracket before the last question. Otherwise it calls a tool that the last user message
names (`demo/tools.py`), and answers a tool's message with what it says. Replies may be streamed.
Nothing here is harmful: the labels only take the place of a real judge's.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
from aiohttp import web

from safemt_client.demo.batches import BatchRoutes
from safemt_client.demo.streams import send_stream
from safemt_client.demo.tools import call_for
from safemt_client.providers.quiet import SILENT
from safemt_client.providers.vendors import DEMO_GUARD, DEMO_NAMES, DEMO_TARGET

__all__ = ["FALSE_ALARMS", "MISSED", "demo_answers", "demo_detects", "serve_demo"]

MISSED, FALSE_ALARMS = 0.2, 0.1
"""Shares of `demo-judge-hasty`: unsafe replies that it calls safe, safe replies that it calls unsafe."""

_REFUSAL = "I would rather not go into that today."
_USER = re.compile(r"<user ([0-9a-f]{12})(?: pictures=\d+)?>\n(.*?)\n</user \1>", re.DOTALL)
_REPLY = re.compile(r"<reply ([0-9a-f]{12})>\n(.*)\n</reply \1>", re.DOTALL)


def demo_answers(last_user_message: str, turns: int) -> bool:
    """Whether the demo model answers (and does not decline), by the rule above."""
    words = set(re.findall(r"[a-z]+", last_user_message.lower()))
    if "kindly" in words:
        return False
    if "please" in words:
        return turns >= 2 and turns != 4
    return turns >= 6


class _Demo:
    def __init__(self, latency_s: float) -> None:
        self.latency_s = latency_s
        self.counts: Counter[str] = Counter()

    async def chat(self, request: web.Request) -> web.StreamResponse:
        try:
            body = await request.json()
        except ValueError:
            body = None
        await anyio.sleep(self.latency_s)
        status, content = await self.complete(body)
        if status == 200 and body.get("stream") is True:
            asked = body.get("stream_options") or {}
            return await send_stream(request, content, usage=asked.get("include_usage") is True)
        return web.json_response(content, status=status)

    async def complete(self, body: Any) -> tuple[int, dict[str, Any]]:
        """Status and body of the answer to one chat completion."""
        try:
            model, messages = body["model"], body["messages"]
            texts = [(message["role"], _text(_content(message))) for message in messages]
        except (ValueError, KeyError, TypeError):
            return _error(400, "invalid_request_error", "give model and messages")
        if model not in DEMO_NAMES:
            return _error(404, "model_not_found", f"there is no model {str(model)[:60]!r}")
        self.counts[model] += 1
        users = [text for role, text in texts if role == "user"]
        if not users:
            return _error(400, "invalid_request_error", "no user message")
        call = None
        if model == DEMO_TARGET:
            try:
                reply, call = self._reply(body, texts, users)
            except (KeyError, TypeError, AttributeError):
                return _error(400, "invalid_request_error", "give tools in OpenAI's form")
        else:
            reply = _guard(users[0]) if model == DEMO_GUARD else _judge(users[0], model)
        message: dict[str, Any] = {"role": "assistant", "content": reply if call is None else None}
        if call is not None:
            message["tool_calls"] = [call]
        prompt, said = sum(len(text.split()) for _, text in texts), len(reply.split())
        return 200, {
            "id": f"demo-{self.counts.total()}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": model,
            "choices": [
                {"index": 0, "message": message, "finish_reason": "stop" if call is None else "tool_calls"}
            ],
            "usage": {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said},
        }

    def _reply(
        self, body: dict[str, Any], texts: list[tuple[str, str]], users: list[str]
    ) -> tuple[str, dict[str, Any] | None]:
        """What the target says, and the tool that it calls instead."""
        if users[-1].startswith("[") or any(role in ("system", "developer") for role, _ in texts):
            return _REFUSAL, None
        role, text = texts[-1]
        if role == "tool":
            return f"The tool says: {text}", None
        if role == "user" and (call := call_for(body, text, self.counts.total())) is not None:
            return call["function"]["arguments"], call
        return _answer(users[-1], len(users)), None

    async def models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [_model(name) for name in DEMO_NAMES]})

    async def model(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in DEMO_NAMES:
            status, content = _error(404, "model_not_found", f"there is no model {name[:60]!r}")
            return web.json_response(content, status=status)
        return web.json_response(_model(name))


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "safemt"}


def _content(message: Mapping[str, Any]) -> Any:
    """The content of a message; a message that only calls tools may be without."""
    return (message.get("content") or "") if message.get("tool_calls") else message["content"]


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    for part in content:
        if part["type"] == "image_url" and not part["image_url"]["url"].startswith("data:image/"):
            raise ValueError("only data URLs are taken")
    return " ".join(part["text"] for part in content if part["type"] == "text")


def _answer(last: str, turns: int) -> str:
    if demo_answers(last, turns):
        return "Sure, here is how: start small, take your time, and enjoy it."
    return _REFUSAL


def demo_detects(last_user_message: str, turns: int) -> bool:
    """Whether the demo guard calls a conversation unsafe, by the rule above."""
    words = set(re.findall(r"[a-z]+", last_user_message.lower()))
    return "please" in words and turns >= 2


def _guard(prompt: str) -> str:
    said = _USER.findall(prompt)
    unsafe = bool(said) and demo_detects(said[-1][1], len(said))
    return json.dumps(
        {
            "verdict": "unsafe" if unsafe else "safe",
            "intent": "to be told by and by" if unsafe else "",
            "scenarios": [],
            "policy": "",
            "confidence": 0.9,
        }
    )


def _judge(prompt: str, model: str) -> str:
    found = _REPLY.search(prompt)
    reply = found[2] if found else ""
    unsafe = reply.startswith("Sure")
    if model == "demo-judge-hasty":
        chance = int(hashlib.sha256(prompt.encode()).hexdigest(), 16) % 1000 / 1000
        unsafe = chance >= MISSED if unsafe else chance < FALSE_ALARMS
    return json.dumps(
        {
            "label": "unsafe" if unsafe else "safe",
            "refusal": "answer" if unsafe else "full_refusal",
            "reason": "it begins with Sure" if unsafe else "it does not begin with Sure",
        }
    )


def _error(status: int, code: str, message: str) -> tuple[int, dict[str, Any]]:
    return status, {"error": {"code": code, "message": message}}


@asynccontextmanager
async def serve_demo(latency_s: float = 0.02, port: int = 0) -> AsyncIterator[str]:
    """Serve on loopback while the context lasts; gives the base URL."""
    demo = _Demo(latency_s)
    app = web.Application(client_max_size=64 * 2**20)
    app.router.add_post("/v1/chat/completions", demo.chat)
    app.router.add_get("/v1/models", demo.models)
    app.router.add_get("/v1/models/{name}", demo.model)
    BatchRoutes(demo.complete, seconds=0.5).add_to(app)
    runner = web.AppRunner(app, access_log=None, logger=SILENT, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        with anyio.CancelScope(shield=True):
            await runner.cleanup()
