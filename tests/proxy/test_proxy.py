"""Any OpenAI client with a moderator in between, over real HTTP: the official client, a real server each."""

import json
import re

import anyio
import anyio.lowlevel
import httpx
import pytest
from aiohttp import web
from support.faults import answer, serve
from support.proxied import (
    BAD,
    DEMO_REFUSAL,
    HANGS_S,
    KEY,
    MODERATED,
    NONSENSE,
    PLAIN,
    REFUSAL,
    SAFE,
    UNSAFE,
    VERDICT,
    Guard,
    by_word,
    demo,
    proxied,
    verdict,
)

from safemt_client.providers.types import Reply


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


def test_only_this_machine_may_ask_and_only_some_paths_are_open() -> None:
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
