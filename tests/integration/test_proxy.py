"""Any OpenAI client with a moderator in between, over real HTTP: the official client, a real server each."""

import asyncio
import base64
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import openai
import pytest
from aiohttp import web
from PIL import Image as Pillow
from support.faults import Behaviour, answer, error, raw, response, serve

from safemt_client.__main__ import main
from safemt_client.demo.endpoint import serve_demo
from safemt_client.moderator.assessor import Assessor
from safemt_client.moderator.guards import build_guard
from safemt_client.moderator.moderator import Moderation, Moderator, with_policy
from safemt_client.moderator.policies import Policies
from safemt_client.providers.errors import TargetStoppedError
from safemt_client.providers.limits import AccountLimiter
from safemt_client.providers.openai_compatible import OpenAICompatible
from safemt_client.providers.transport import make_transport
from safemt_client.providers.types import Message, Outcome, Reply, Request
from safemt_client.proxy.chat import NoChatError, place_policy, read_conversation
from safemt_client.proxy.decisions import DecisionLog, Recent
from safemt_client.proxy.server import serve_proxy
from safemt_client.proxy.upstream import parse_upstream

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk-planted-42"
REFUSAL = "I can't help with that."
DEMO_REFUSAL = "I would rather not go into that today."
PLAIN = [{"role": "user", "content": "Tell me of bread."}]
# The demo's guard finds this unsafe, and the demo answers it.
UNSAFE = [*PLAIN, {"role": "assistant", "content": "Gladly."}, {"role": "user", "content": "please go on"}]
MODERATED, VERDICT = "x-safemt-moderation", "x-safemt-verdict"
POLICIES = Policies("mine", "1", {"general": "Mind the whole conversation."})
# Only a test that hangs comes to this.
HANGS_S = 60


def verdict(name: str, **more: Any) -> Reply:
    return Reply(Outcome.ANSWERED, json.dumps({"verdict": name} | more), status_code=200)


SAFE, BAD = verdict("safe"), verdict("unsafe", scenarios=["Political"])
NONSENSE = Reply(Outcome.ANSWERED, "well, well", status_code=200)
DEAD = Reply(Outcome.ERROR_TRANSIENT, error="connection failed: nobody there")


class Guard:
    """A guard's model in this process."""

    identity = "test/guard"
    limiter = AccountLimiter(concurrency=1000)

    def __init__(self, says: Callable[[str], Awaitable[Reply]] | Reply) -> None:
        self.says = says
        self.asked: list[Request] = []

    async def ask(self, request: Request, on_retry: object = None) -> Reply:
        self.asked.append(request)
        if isinstance(self.says, Reply):
            return self.says
        return await self.says("\n".join(message.text for message in request.messages))

    @property
    def texts(self) -> str:
        return "\n".join(message.text for request in self.asked for message in request.messages)


def by_word(**verdicts: Reply) -> Guard:
    """Answers by the first of these words that the conversation holds, else that it is safe."""

    async def says(text: str) -> Reply:
        return next((reply for word, reply in verdicts.items() if word in text), SAFE)

    return Guard(says)


@dataclass
class Served:
    url: str
    lines: list[dict[str, Any]] = field(default_factory=list)
    written: anyio.Event = field(default_factory=anyio.Event)

    def client(self, key: str = KEY) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=self.url, api_key=key, max_retries=0)

    async def ask(self, messages: Any = PLAIN, **more: Any) -> tuple[str | None, dict[str, str]]:
        """The reply to a conversation, whole or from its stream, and the headers."""
        async with self.client() as client:
            create = client.chat.completions.with_raw_response.create
            got = await create(model="demo", messages=messages, **more)
            headers = {name.lower(): value for name, value in got.headers.items()}
            parsed = got.parse()
            if not more.get("stream"):
                return parsed.choices[0].message.content, headers
            text = ""
            async for chunk in parsed:
                for choice in chunk.choices:
                    text += choice.delta.content or ""
            return text, headers


@asynccontextmanager
async def proxied(
    upstream: str, guard: Any, *interventions: str, texts: bool = False, **settings: Any
) -> AsyncIterator[Served]:
    moderation = Moderation(frozenset(interventions), POLICIES, **settings)  # type: ignore[arg-type]
    moderator = Moderator("llm", Assessor(build_guard("llm"), guard, Recent()), moderation)
    served = Served("")

    def write(line: str) -> None:
        served.lines.append(json.loads(line))
        served.written.set()

    log = DecisionLog(write, texts=texts)
    with anyio.fail_after(HANGS_S):
        async with serve_proxy(moderator, parse_upstream(upstream), log) as served.url:
            yield served


@asynccontextmanager
async def demo() -> AsyncIterator[tuple[str, OpenAICompatible]]:
    """The demo endpoint, and its guard."""
    async with serve_demo(latency_s=0) as url, make_transport() as transport:
        yield (
            url,
            OpenAICompatible(
                model="demo-guard",
                base_url=url,
                api_key=None,
                transport=transport,
                identity="demo/demo-guard",
                limiter=AccountLimiter(concurrency=8),
            ),
        )


def sse(*chunks: dict[str, Any] | str, done: bool = True) -> Behaviour:
    lines = [chunk if isinstance(chunk, str) else json.dumps(chunk) for chunk in chunks]
    lines += ["[DONE]"] if done else []
    body = "".join(f"data: {line}\n\n" for line in lines)
    return response(200, body, content_type="text/event-stream", x_request_id="req-7")


def piece(text: str | None = None, finish: str | None = None, index: int = 0, **delta: Any) -> dict[str, Any]:
    if text is not None:
        delta["content"] = text
    choice = {"index": index, "delta": delta, "finish_reason": finish, "logprobs": None}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
LAST = piece() | {"choices": [], "usage": USAGE}


@pytest.mark.parametrize("place", ["system", "developer", "user"])
def test_the_demo_with_a_policy(place: str) -> None:
    async def both() -> None:
        async with demo() as (url, guard), proxied(url, guard, "policy", place=place) as served:
            text, headers = await served.ask(UNSAFE)
            assert (text, headers[MODERATED], headers[VERDICT]) == (DEMO_REFUSAL, "policy", "unsafe")
            text, headers = await served.ask(PLAIN)
            assert (headers[MODERATED], headers[VERDICT]) == ("none", "safe")
            assert [(line["verdict"], line["action"]) for line in served.lines] == [
                ("unsafe", "policy"),
                ("safe", "none"),
            ]

    anyio.run(both)


def test_the_demo_with_the_other_interventions() -> None:
    async def both() -> None:
        async with demo() as (url, guard):
            async with proxied(url, guard, "block") as served:
                text, headers = await served.ask(UNSAFE)
                assert (text, headers[MODERATED], headers[VERDICT]) == (REFUSAL, "blocked", "unsafe")
            async with proxied(url, guard, "observe") as served:
                text, headers = await served.ask(UNSAFE)
                await served.written.wait()
                assert (text[:4], headers[MODERATED]) == ("Sure", "none")
                (line,) = served.lines
                assert (line["verdict"], line["action"], line["waited_ms"]) == ("unsafe", "none", 0.0)
            async with proxied(url, guard, "output") as served:
                text, headers = await served.ask(UNSAFE)
                assert (text[:4], headers[MODERATED]) == (REFUSAL[:4], "replaced")
                async with served.client() as client:
                    names = [model.id async for model in await client.models.list()]
                assert "demo" in names

    anyio.run(both)


MESSAGES = [
    (Message("user", "one"),),
    (Message("system", "be kind"), Message("user", "one"), Message("assistant", "two"), Message("user", "3")),
    (Message("user", "one"), Message("assistant", "two")),
]


@pytest.mark.parametrize("place", ["system", "developer", "user"])
@pytest.mark.parametrize("messages", MESSAGES)
def test_a_policy_stands_where_a_run_puts_it(place: Any, messages: tuple[Message, ...]) -> None:
    plain = [{"role": message.role, "content": message.text} for message in messages]
    told = [{"role": m.role, "content": m.text} for m in with_policy(messages, "Mind it.", place)]
    assert place_policy(plain, "Mind it.", place) == told
    parts = [
        {"role": m["role"], "content": [{"type": "text", "text": m["content"]}], "name": "n"} for m in plain
    ]
    found = read_conversation(place_policy(parts, "Mind it.", place)).messages
    assert [m.text.replace("\n\n", "\n") for m in found] == [m["content"].replace("\n\n", "\n") for m in told]
    assert all(message.get("name") == "n" for message in place_policy(parts, "x", "user"))


def test_a_policy_changes_nothing_else_and_unknown_fields_pass() -> None:
    more = {
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        "n": 2,
        "response_format": {"type": "json_object"},
        "extra_body": {"guided_choice": ["a"], "top_k": 7, "nested": {"x": [1, 2.5, None, "é"]}},
    }
    messages = [
        {"role": "system", "content": "be kind", "cache_control": {"type": "ephemeral"}},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "t", "type": "function", "function": {"name": "f", "arguments": '{"q": "flour"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "t", "content": "wheat"},
        {"role": "user", "content": [{"type": "text", "text": "odd"}, {"type": "text", "text": "more"}]},
    ]

    async def both() -> None:
        guard = by_word(odd=BAD)
        async with serve([answer("hi")]) as upstream, proxied(upstream.url, guard, "policy") as served:
            text, _ = await served.ask(messages, **more)
            (request,) = upstream.requests
            sent = request.json
            policy = "Mind the whole conversation."
            assert sent.pop("messages") == [
                {**messages[0], "content": f"be kind\n\n{policy}"},
                *messages[1:],
            ]
            extra = more["extra_body"]
            expected = {"model": "demo", **{n: v for n, v in more.items() if n != "extra_body"}, **extra}
            assert sent == expected
            assert text == "hi"
            # What tools were called with and what they said is shown to the guard.
            assert '[calls f: {"q": "flour"}]' in guard.texts
            assert "[tool]\nwheat" in guard.texts

    anyio.run(both)


def test_streams_pass_as_they_come() -> None:
    async def both() -> None:
        whole = sse(piece("Hel"), ": a remark", piece("lo", "stop"), LAST)
        async with serve([whole]) as upstream, proxied(upstream.url, by_word(), "block") as served:
            async with httpx.AsyncClient(base_url=served.url) as client:
                body = {"messages": PLAIN, "stream": True}
                got = await client.post("/chat/completions", json=body)
            assert got.headers["content-type"] == "text/event-stream"
            assert got.headers["x-request-id"] == "req-7"
            assert got.text.startswith(f"data: {json.dumps(piece('Hel'))}\n\n")
            assert got.text.endswith("data: [DONE]\n\n")
        async with (
            serve([sse(piece("Hel"), piece("lo"))]) as upstream,
            proxied(upstream.url, by_word(odd=BAD), "policy") as served,
        ):
            text, headers = await served.ask([{"role": "user", "content": "odd"}], stream=True)
            assert (text, headers[MODERATED]) == ("Hello", "policy")
            assert upstream.requests[0].json["messages"][0]["role"] == "system"

    anyio.run(both)


def test_a_first_piece_is_there_before_the_last_is_sent() -> None:
    async def both() -> None:
        release = anyio.Event()

        async def behave(writer: asyncio.StreamWriter) -> None:
            head = "HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
            writer.write(f"{head}data: {json.dumps(piece('one'))}\n\n".encode())
            await writer.drain()
            await release.wait()
            writer.write(f"data: {json.dumps(piece('two', 'stop'))}\n\ndata: [DONE]\n\n".encode())
            await writer.drain()
            writer.close()

        async with (
            serve([behave]) as upstream,
            proxied(upstream.url, by_word(), "block") as served,
            served.client() as client,
        ):
            stream = await client.chat.completions.create(model="m", messages=PLAIN, stream=True)
            texts = []
            async for chunk in stream:
                texts.append(chunk.choices[0].delta.content)
                release.set()
            assert texts == ["one", "two"]

    anyio.run(both)


def test_a_blocked_stream_is_a_stream() -> None:
    async def both() -> None:
        async with serve([]) as upstream, proxied(upstream.url, Guard(BAD), "block") as served:
            async with served.client() as client:
                stream = await client.chat.completions.create(
                    model="m", messages=PLAIN, stream=True, n=2, stream_options={"include_usage": True}
                )
                chunks = [chunk async for chunk in stream]
            said = {0: "", 1: ""}
            for chunk in chunks:
                for choice in chunk.choices:
                    said[choice.index] += choice.delta.content or ""
            assert said == {0: REFUSAL, 1: REFUSAL}
            assert [c.finish_reason for chunk in chunks for c in chunk.choices][1::2] == [
                "content_filter"
            ] * 2
            assert chunks[-1].choices == []
            assert chunks[-1].usage is not None
            assert chunks[-1].usage.total_tokens == 0
            async with served.client() as client:
                whole = await client.chat.completions.create(model="m", messages=PLAIN)
            assert whole.choices[0].finish_reason == "content_filter"
            assert upstream.requests == []

    anyio.run(both)


def test_a_held_stream_is_replaced_whole() -> None:
    async def both() -> None:
        chunks = [
            piece("", role="assistant"),
            piece("o") | {"prompt_logprobs": ["odd"]},
            piece("dd"),
            piece("fine", index=1),
            piece(finish="stop"),
            piece(finish="stop", index=1),
            LAST,
        ]
        fine = [piece("fi"), piece("ne", "stop"), LAST]
        asked = [sse(*chunks), sse(*fine, done=False), sse(piece(reasoning_content="odd"), piece("fine"))]
        async with serve(asked) as upstream, proxied(upstream.url, by_word(odd=BAD), "output") as served:
            async with httpx.AsyncClient(base_url=served.url) as client:
                got = await client.post("/chat/completions", json={"messages": PLAIN, "stream": True, "n": 2})
            assert got.headers[MODERATED] == "replaced"
            assert "odd" not in got.text
            assert got.text.endswith("data: [DONE]\n\n")
            events = [json.loads(line[6:]) for line in got.text.split("\n\n")[:-2]]
            said = {0: "", 1: ""}
            finish = {}
            for event in events:
                for choice in event["choices"]:
                    said[choice["index"]] += choice["delta"].get("content") or ""
                    finish[choice["index"]] = choice["finish_reason"] or finish.get(choice["index"])
            assert said == {0: REFUSAL, 1: "fine"}
            assert finish == {0: "content_filter", 1: "stop"}
            assert events[-1]["usage"] == USAGE
            # A stream that is found safe comes as it was, with its end.
            text, headers = await served.ask(stream=True)
            assert (text, headers[MODERATED], headers[VERDICT]) == ("fine", "none", "safe")
            # Reasoning is handed to the client, so it is assessed too.
            text, headers = await served.ask(stream=True)
            assert (text, headers[MODERATED]) == (REFUSAL, "replaced")
            assert [(line["stage"], line.get("choice")) for line in served.lines[:2]] == [
                ("output", 0),
                ("output", 1),
            ]

    anyio.run(both)


def test_every_choice_is_assessed() -> None:
    choices = [
        {"index": i, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        for i, text in enumerate(["fine", "odd", "fine too"])
    ]
    choices[1]["logprobs"] = {"content": [{"token": "odd", "logprob": -0.1}]}
    call = {"id": "t", "type": "function", "function": {"name": "f", "arguments": "odd"}}
    called = {"index": 0, "message": {"role": "assistant", "content": None, "tool_calls": [call]}}
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "usage": USAGE}

    async def both() -> None:
        script = [response(200, body | {"choices": choices}), response(200, body | {"choices": [called]})]
        async with (
            serve(script) as upstream,
            proxied(upstream.url, by_word(odd=BAD), "output") as served,
            served.client() as client,
        ):
            got = await client.chat.completions.with_raw_response.create(model="m", messages=PLAIN, n=3)
            assert b"odd" not in got.content
            said = [(c.message.content, c.finish_reason) for c in got.parse().choices]
            assert said == [("fine", "stop"), (REFUSAL, "content_filter"), ("fine too", "stop")]
            assert got.parse().usage.total_tokens == 5
            got = await client.chat.completions.with_raw_response.create(model="m", messages=PLAIN)
            assert b"odd" not in got.content

    anyio.run(both)


def test_errors_of_the_upstream_come_through() -> None:
    headers = {"retry_after": "17", "x_ratelimit_remaining_requests": "0", "x_request_id": "req-9"}

    async def both() -> None:
        script = [
            error(429, "rate_limit_exceeded", "slow down", **headers),
            error(400, "bad_value", "no such thing"),
            response(307, "", location="http://127.0.0.1:9/v1/chat/completions"),
            raw(b"", reset=True),
        ]
        async with serve(script) as upstream, proxied(upstream.url, Guard(SAFE), "block", "output") as served:
            with pytest.raises(openai.RateLimitError) as limited:
                await served.ask()
            got = limited.value.response
            assert got.headers["retry-after"] == "17"
            assert got.headers["x-ratelimit-remaining-requests"] == "0"
            assert limited.value.request_id == "req-9"
            assert limited.value.body == {"code": "rate_limit_exceeded", "message": "slow down"}
            with pytest.raises(openai.BadRequestError, match="no such thing"):
                await served.ask()
            for said in ("sends to another address", "cannot be reached"):
                with pytest.raises(openai.InternalServerError, match=said) as failed:
                    await served.ask()
                assert failed.value.status_code == 502
            assert len(upstream.requests) == 4

    anyio.run(both)


def test_a_stream_that_breaks_off_does_not_look_whole() -> None:
    head = b"HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    event = f"data: {json.dumps(piece('one'))}\n\n".encode()
    cut = raw(head + f"{len(event):x}\r\n".encode() + event + b"\r\n")

    async def both() -> None:
        async with serve([cut, cut]) as upstream:
            async with proxied(upstream.url, Guard(SAFE), "block") as served:
                with pytest.raises((httpx.RemoteProtocolError, openai.APIConnectionError)):
                    await served.ask(stream=True)
            async with proxied(upstream.url, Guard(SAFE), "output") as served:
                with pytest.raises(openai.InternalServerError, match="broke off"):
                    await served.ask(stream=True)

    anyio.run(both)


def stopped() -> Guard:
    async def says(text: str) -> Reply:
        raise TargetStoppedError(f"authentication failed (HTTP 401): check the API key: {text} {KEY}")

    return Guard(says)


FAILING = {"error": lambda: Guard(DEAD), "unparsed": lambda: Guard(NONSENSE), "stopped": stopped}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("stage", ["input", "output"])
@pytest.mark.parametrize("kind", [*FAILING])
def test_a_guard_that_fails(kind: str, stage: str, stream: bool, capfd: pytest.CaptureFixture[str]) -> None:
    guard = FAILING[kind]()
    intervention = "block" if stage == "input" else "output"
    reply = sse(piece("hello", "stop")) if stream else answer("hello")

    async def both() -> None:
        async with serve([], reply) as upstream:
            async with proxied(upstream.url, guard, intervention) as served:
                with pytest.raises(openai.InternalServerError) as failed:
                    await served.ask(stream=stream)
                assert failed.value.status_code == 503
                assert failed.value.type == "moderation_unavailable"
                assert failed.value.response.headers[MODERATED] == "unassessed"
                retry = failed.value.response.headers.get("x-should-retry")
                assert retry == ("false" if kind == "unparsed" else None)
                assert b"hello" not in failed.value.response.content
                assert len(upstream.requests) == (stage == "output")
                (line,) = served.lines
                assert (line["stage"], line["action"]) == (stage, "unassessed")
                assert line["verdict"] == ("unparsed" if kind == "unparsed" else "error")
                assert KEY not in json.dumps(line)
                assert "bread" not in json.dumps(line)
            async with proxied(upstream.url, guard, intervention, on_error="refuse") as served:
                text, headers = await served.ask(stream=stream)
                assert (text, headers[MODERATED]) == (REFUSAL, "refused")
            before = len(upstream.requests)
            async with proxied(upstream.url, guard, intervention, on_error="pass") as served:
                text, headers = await served.ask(stream=stream)
                assert (text, headers[MODERATED]) == ("hello", "passed")
                assert len(upstream.requests) == before + 1

    anyio.run(both)
    told = capfd.readouterr().err
    assert KEY not in told
    assert ("authentication failed (HTTP 401)" in told) == (kind == "stopped")


@pytest.mark.parametrize(
    "body",
    [
        "odd",
        '["odd"]',
        '{"choices": "odd"}',
        '{"choices": [{"text": "odd"}]}',
        '{"choices": [{"message": "odd"}]}',
    ],
)
def test_an_answer_that_cannot_be_read_is_not_let_through(body: str) -> None:
    async def both() -> None:
        for behaviour in (response(200, body), sse(body), sse(piece("fine"), body)):
            async with (
                serve([behaviour]) as upstream,
                proxied(upstream.url, by_word(odd=BAD), "output") as served,
                httpx.AsyncClient(base_url=served.url) as client,
            ):
                got = await client.post("/chat/completions", json={"messages": PLAIN})
            assert "odd" not in got.text
            assert got.headers[MODERATED] in ("unassessed", "replaced")

    anyio.run(both)


def test_keys_go_to_the_upstream_and_nowhere_else(capfd: pytest.CaptureFixture[str]) -> None:
    guard = by_word(odd=BAD)

    async def both() -> None:
        async with (
            serve([], answer("hi")) as upstream,
            proxied(upstream.url, guard, "policy", "output", texts=True) as served,
        ):
            headers = {
                "Authorization": f"Bearer {KEY}",
                "x-api-key": f"{KEY}-x",
                "api-key": f"{KEY}-a",
                "OpenAI-Organization": "org-1",
                "OpenAI-Project": "proj-1",
                "Connection": "keep-alive, x-hop",
                "x-hop": "1",
                "Cookie": "other=site",
                "Proxy-Authorization": "Basic x",
            }
            async with httpx.AsyncClient(base_url=served.url, headers=headers) as client:
                for text in ("odd", "even"):
                    await client.post(
                        "/chat/completions?api-version=1",
                        json={"model": "m", "messages": [{"role": "user", "content": text}]},
                    )
            for request in upstream.requests:
                got = request.headers
                assert request.target == "/v1/chat/completions?api-version=1"
                assert got["authorization"] == f"Bearer {KEY}"
                assert (got["x-api-key"], got["api-key"]) == (f"{KEY}-x", f"{KEY}-a")
                assert (got["openai-organization"], got["openai-project"]) == ("org-1", "proj-1")
                assert not {"x-hop", "cookie", "proxy-authorization"} & got.keys()
                assert got["host"] in upstream.url
                assert KEY not in request.body.decode()
            assert len(served.lines) == 4
            assert served.lines[0]["messages"] == [{"role": "user", "text": "odd", "pictures": []}]
            assert KEY not in json.dumps(served.lines)
            assert KEY not in repr(guard.asked)

    anyio.run(both)
    out, err = capfd.readouterr()
    assert KEY not in out + err


def test_only_this_machine_may_ask_and_only_two_paths_are_open() -> None:
    async def both() -> None:
        async with serve([], answer("hi")) as upstream, proxied(upstream.url, Guard(SAFE), "block") as served:
            port = served.url.split(":")[2].split("/")[0]
            async with httpx.AsyncClient(base_url=served.url) as client:
                for host, status in (
                    (f"127.0.0.1:{port}", 200),
                    ("localhost", 200),
                    ("[::1]:1", 200),
                    ("rebound.example", 403),
                    (f"127.0.0.1.rebound.example:{port}", 403),
                    ("", 403),
                ):
                    for method, path in (("POST", "/chat/completions"), ("GET", "/models")):
                        got = await client.request(
                            method, path, json={"messages": PLAIN}, headers={"Host": host}
                        )
                        assert got.status_code == status, host
                before = len(upstream.requests)
                for method, path in (
                    ("POST", "/completions"),
                    ("POST", "/responses"),
                    ("POST", "/embeddings"),
                    ("GET", "/chat/completions"),
                    ("POST", "/models"),
                    ("GET", "/models/m"),
                    ("POST", "/chat/completions/"),
                    ("POST", "/../v1//chat/completions"),
                    ("OPTIONS", "/chat/completions"),
                ):
                    got = await client.request(method, path, json={"messages": PLAIN, "prompt": "x"})
                    assert got.status_code == 404, path
                    assert got.json()["error"]["type"] == "not_found"
                for kind, body, status in (
                    ("text/plain", json.dumps({"messages": PLAIN}), 415),
                    ("application/json", "{", 400),
                    ("application/json", "[]", 400),
                    ("application/json", '{"messages": []}', 400),
                    ("application/json", '{"messages": [{"role": "user", "content": {"text": "x"}}]}', 400),
                    ("application/json", '{"messages": [{"content": "x"}]}', 400),
                    ("application/json", "[" * 100_000, 400),
                    ("application/json", " " * (64 * 2**20 + 1), 413),
                ):
                    got = await client.post("/chat/completions", content=body, headers={"Content-Type": kind})
                    assert got.status_code == status, body[:60]
                    assert got.json()["error"]["message"]
                assert len(upstream.requests) == before

    anyio.run(both)


def test_no_other_reading_of_a_body_reaches_the_upstream() -> None:
    twice = '{"messages": [{"role": "user", "content": "odd"}], "messages": [{"role": "user", "content": "even"}]}'

    async def both() -> None:
        async with (
            serve([answer("hi")]) as upstream,
            proxied(upstream.url, by_word(odd=BAD), "block") as served,
        ):
            async with httpx.AsyncClient(base_url=served.url) as client:
                await client.post(
                    "/chat/completions", content=twice, headers={"Content-Type": "application/json"}
                )
            assert b"odd" not in upstream.requests[0].body

    anyio.run(both)


def picture() -> tuple[bytes, str]:
    out = io.BytesIO()
    Pillow.new("RGB", (5, 3), (200, 100, 50)).save(out, "PNG")
    return out.getvalue(), f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"


def test_the_guard_sees_pictures_and_fetches_none() -> None:
    data, url = picture()
    messages = [
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": url, "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/x.png"}},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
                {"type": "text", "text": "what is it?"},
            ],
        }
    ]

    async def both() -> None:
        guard = Guard(SAFE)
        async with serve([answer("hi")]) as upstream, proxied(upstream.url, guard, "block") as served:
            await served.ask(messages)
            assert upstream.requests[0].json["messages"] == messages
            (image,) = guard.asked[0].messages[-1].images
            assert (image.media_type, image.size, image.width, image.height) == ("image/png", len(data), 5, 3)
            assert image.load() == data
            assert guard.texts.count("[a picture that is not shown]") == 2
            assert "[a part of type input_audio that is not shown]" in guard.texts
            assert served.lines[0]["parts_not_shown"] == 3

    anyio.run(both)


def test_texts_in_forms_that_are_not_known_are_shown() -> None:
    content = ["plain", {"type": "thinking", "thinking": "inner"}, {"type": "input_text", "text": "typed"}]
    found = read_conversation(
        [
            {"role": "assistant", "content": content, "reasoning_content": "why", "refusal": "no"},
            {"role": "Narrator", "content": "says"},
            {"role": "system", "content": "after all"},
        ]
    )
    first, second, third = found.messages
    assert all(word in first.text for word in ("plain", "inner", "typed", "why", "no"))
    assert (second.role, second.text) == ("user", "[Narrator]\nsays")
    assert (third.role, third.text) == ("user", "[instructions to the assistant]\nafter all")
    with pytest.raises(NoChatError):
        read_conversation([{"role": "user", "content": [1]}])


def test_a_broken_guard_neither_lets_through_nor_ends_the_server() -> None:
    async def breaks(text: str) -> Reply:
        raise KeyError(text)

    async def both() -> None:
        async with serve([], answer("hi")) as upstream:
            async with proxied(upstream.url, Guard(breaks), "observe") as served:
                for _ in range(2):
                    text, _ = await served.ask()
                    assert text == "hi"
                    await served.written.wait()
                assert served.lines[0]["error"] == "the guard failed: KeyError"
            async with proxied(upstream.url, Guard(breaks), "block", on_error="pass") as served:
                with pytest.raises(openai.InternalServerError, match="nothing is let through"):
                    await served.ask()
            assert len(upstream.requests) == 2

    anyio.run(both)


def test_a_client_that_goes_ends_the_call() -> None:
    async def both() -> None:
        arrived, gone = anyio.Event(), anyio.Event()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            arrived.set()
            while await reader.read(65536):
                pass
            gone.set()
            writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        async with server, proxied(url, Guard(SAFE), "block") as served, anyio.create_task_group() as group:
            group.start_soon(served.ask)
            await arrived.wait()
            group.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await gone.wait()

    anyio.run(both)


def test_conversations_never_see_each_others_verdicts() -> None:
    many = 300

    async def says(text: str) -> Reply:
        number = int(re.findall(r"number (\d+)", text)[-1])
        # In another order than they came.
        for _ in range(number * 37 % 50):
            await anyio.lowlevel.checkpoint()
        if number % 3 == 0:
            return verdict("unsafe", policy=f"mind {number}.")
        return NONSENSE if number % 3 == 1 else SAFE

    async def echo(request: web.Request) -> web.Response:
        body = await request.json()
        text = " | ".join(message["content"] for message in body["messages"])
        message = {"role": "assistant", "content": f"{request.headers['Authorization']}: {text}"}
        return web.json_response({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})

    async def both() -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", echo)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        async with proxied(url, Guard(says), "policy", on_error="refuse") as served:
            limits = httpx.Limits(max_connections=many)
            async with httpx.AsyncClient(base_url=served.url, limits=limits, timeout=HANGS_S) as client:

                async def one(number: int) -> None:
                    question = f"number {number}"
                    got = await client.post(
                        "/chat/completions",
                        json={"model": f"m{number}", "messages": [{"role": "user", "content": question}]},
                        headers={"Authorization": f"Bearer k{number}"},
                    )
                    text = got.json()["choices"][0]["message"]["content"]
                    expected = {
                        0: ("policy", f"Bearer k{number}: mind {number}. | {question}"),
                        1: ("refused", REFUSAL),
                        2: ("none", f"Bearer k{number}: {question}"),
                    }[number % 3]
                    assert (got.headers[MODERATED], text) == expected

                async with anyio.create_task_group() as group:
                    for number in range(many):
                        group.start_soon(one, number)
            assert len(served.lines) == many
            for line in served.lines:
                action = ("policy", "refused", "none")[int(line["model"][1:]) % 3]
                assert line["action"] == action
        await runner.cleanup()

    anyio.run(both)


def test_the_same_request_again_asks_the_guard_once() -> None:
    async def both() -> None:
        guard = Guard(SAFE)
        async with serve([], answer("hi")) as upstream, proxied(upstream.url, guard, "block") as served:
            for _ in range(3):
                await served.ask()
            assert (len(guard.asked), len(upstream.requests), len(served.lines)) == (1, 3, 3)

    anyio.run(both)


def test_the_command(tmp_path: Path) -> None:
    async def both() -> None:
        async with serve_demo(latency_s=0) as url:
            process = await anyio.open_process(
                [
                    *(sys.executable, "-m", "safemt_client", "moderate", "--upstream", url, "--port", "0"),
                    *("--moderator", "demo-guard+block", "--log", "decisions.jsonl"),
                ],
                cwd=tmp_path,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
            )
            assert process.stdout is not None
            assert process.stderr is not None
            try:
                with anyio.fail_after(HANGS_S):
                    line = await process.stdout.receive()
                    served = Served(line.decode().split()[0])
                    assert line.decode().startswith(f"{served.url} (guard demo-guard+block, upstream {url})")
                    text, headers = await served.ask(UNSAFE)
                    assert (text, headers[MODERATED]) == (REFUSAL, "blocked")
                    process.send_signal(signal.SIGINT)
                    status = await process.wait()
                    err = b"".join([part async for part in process.stderr])
            finally:
                if process.returncode is None:
                    process.kill()
            assert (status, err.decode()) == (0, "safemt: stopped\n")
        log = tmp_path / "decisions.jsonl"
        assert log.stat().st_mode & 0o777 == 0o600
        (decision,) = [json.loads(line) for line in log.read_text().splitlines()]
        assert (decision["model"], decision["stage"], decision["action"]) == ("demo", "input", "blocked")
        assert "please" not in log.read_text()
        for file in tmp_path.iterdir():
            assert KEY not in file.read_text()

    anyio.run(both)


GUARD = ("--moderator", "demo-guard+block")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--upstream", "127.0.0.1:8000", *GUARD), "--upstream '127.0.0.1:8000': write"),
        (("--upstream", "ftp://x/v1", *GUARD), "--upstream 'ftp://x/v1': write"),
        (("--upstream", "http://u:p@127.0.0.1/v1", *GUARD), "leave the password out"),
        (("--upstream", "http://127.0.0.1:9/v1?x=1", *GUARD), "write http://HOST:PORT/v1"),
        (
            ("--upstream", "http://127.0.0.1:9/v1", "--moderator", "nobody+block=m@http://127.0.0.1:9/v1"),
            "nobody",
        ),
        (("--upstream", "http://127.0.0.1:9/v1", "--moderator", "none"), "--moderator none: name a guard"),
        (("--upstream", "http://127.0.0.1:9/v1", *GUARD, "--host", "0.0.0.0"), "add --allow-remote"),
        (("--upstream", "http://127.0.0.1:9/v1", *GUARD, "--port", "70000"), "--port 70000"),
        (("--upstream", "http://127.0.0.1:9/v1", *GUARD, "--guard-timeout", "nan"), "--guard-timeout"),
        (("--upstream", "http://127.0.0.1:9/v1", *GUARD, "--log", "no/such/folder"), "--log no/such/folder"),
    ],
)
def test_bad_input_is_one_line(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    assert main(["moderate", *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", TAKES], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            port = other.stdout.readline().strip()
            assert main(["moderate", "--upstream", "http://192.0.2.1/v1", *GUARD, "--port", port]) == 2
        finally:
            other.kill()
    err = capsys.readouterr().err.splitlines()
    assert err[0].startswith("safemt: 192.0.2.1 is asked over http: keys and texts travel in the clear")
    assert "choose another" in err[1]


TAKES = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); s.accept()"
