"""Which paths are served, in OpenAI's form and in Azure's, where they lead, and what is said of all others."""

import json
from urllib.parse import unquote

import anyio
import httpx
import openai
import pytest
from support.faults import Received, answer, response, serve
from support.proxied import (
    KEY,
    MODERATED,
    PLAIN,
    REFUSAL,
    SAFE,
    UNSAFE,
    Guard,
    by_word,
    demo,
    proxied,
    verdict,
)

ASKED = {"model": "m", "messages": PLAIN}


@pytest.mark.parametrize(
    ("at", "path", "reached"),
    [
        ("/v1", "/v1/chat/completions", "/v1/chat/completions"),
        ("/v1", "/v1/chat/completions?a=b%26c", "/v1/chat/completions?a=b%26c"),
        ("/v1", "/openai/v1/chat/completions", "/v1/chat/completions"),
        ("/v1", "/openai/deployments/d/chat/completions?api-version=2", "/v1/chat/completions"),
        ("/openai", "/v1/chat/completions", "/openai/v1/chat/completions"),
        ("/openai", "/openai/v1/chat/completions?api-version=2", "/openai/v1/chat/completions?api-version=2"),
        (
            "/openai",
            "/openai/deployments/d%20e/chat/completions?api-version=2",
            "/openai/deployments/d%20e/chat/completions?api-version=2",
        ),
        ("/v1", "/v1/models", "/v1/models"),
        ("/v1", "/v1/models/org/name:free", "/v1/models/org/name:free"),
        ("/v1", "/openai/models?api-version=2", "/v1/models"),
        ("/openai", "/openai/models?api-version=2", "/openai/models?api-version=2"),
        ("/openai", "/openai/models/m?api-version=2", "/openai/models/m?api-version=2"),
        ("/openai", "/v1/models/m", "/openai/v1/models/m"),
    ],
)
def test_where_a_path_leads(at: str, path: str, reached: str) -> None:
    async def both() -> None:
        async with serve([answer("hi")]) as upstream:
            address = upstream.url.removesuffix("/v1") + at
            async with proxied(address, Guard(SAFE), "block") as served, httpx.AsyncClient() as client:
                url = served.url.removesuffix("/v1") + path
                got = await (client.get(url) if "/models" in path else client.post(url, json=ASKED))
            assert got.status_code == 200
            (request,) = upstream.requests
            assert request.target == reached
            if "deployments" in path:
                assert request.json["model"] == unquote(path.split("/")[3])

    anyio.run(both)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (
            "POST /v1/responses",
            "set your client from the Responses API to chat completions, POST /v1/chat/completions",
        ),
        ("POST /openai/v1/responses", "the Responses API"),
        ("GET /v1/responses/resp_1", "POST /v1/chat/completions"),
        ("POST /v1/completions", "a prompt is not a conversation that a guard could be shown"),
        ("POST /openai/deployments/d/completions", "a prompt is not a conversation"),
        (
            "POST /v1/embeddings",
            "only chat completions are moderated, and nothing else is passed on: ask the upstream itself",
        ),
        ("POST /v1/messages", "use an OpenAI client"),
        ("POST /v1/images/generations", "POST /v1/chat/completions"),
        ("GET /v1/files", "the paths are"),
        ("POST /chat/completions", "set the base URL of your client to http://127.0.0.1:"),
        ("POST /v1/v1/chat/completions", "the path is POST /v1/chat/completions: set the base URL"),
        ("DELETE /v1/models/m", "GET /v1/models/NAME"),
        ("GET /v1/models/..%2F..%2Fsecret", "there is no model of this name"),
        ("GET /v1/models/a%2F%2E%2E%2Fb", "there is no model of this name"),
        ("POST /openai/deployments/%2E%2E/chat/completions", "there is no model of this name"),
        ("POST /openai/deployments/..%2Fd/chat/completions", "there is no model of this name"),
        ("GET /v1/models/..%5Csecret", "there is no model of this name"),
    ],
)
def test_any_other_path_is_an_error_that_says_what_to_use(path: str, said: str) -> None:
    async def both() -> None:
        async with (
            serve([]) as upstream,
            proxied(upstream.url, Guard(SAFE), "block") as served,
            httpx.AsyncClient() as client,
        ):
            method, way = path.split()
            got = await client.request(method, served.url.removesuffix("/v1") + way, json=ASKED)
            assert upstream.requests == []
        assert got.status_code == 404
        error = got.json()["error"]
        assert said in error["message"]
        assert len(error["message"].splitlines()) == 1
        assert (error["type"], error["code"], error["param"]) == ("not_found", "not_found", None)

    anyio.run(both)


def test_the_responses_api_of_the_official_client_says_what_to_use() -> None:
    async def both() -> None:
        async with (
            serve([]) as upstream,
            proxied(upstream.url, Guard(SAFE), "block") as served,
            served.client() as client,
        ):
            with pytest.raises(openai.NotFoundError, match="from the Responses API to chat completions"):
                await client.responses.create(model="m", input="hello")

    anyio.run(both)


def test_azures_own_client() -> None:
    model = {"id": "d", "object": "model", "created": 1, "owned_by": "o"}

    def choose(received: Received):  # type: ignore[no-untyped-def]
        return response(200, model) if received.target.startswith("/openai/models/") else None

    async def both() -> None:
        guard = by_word(odd=verdict("unsafe"))
        async with serve([], answer("hi"), choose=choose) as upstream:
            address = upstream.url.removesuffix("/v1") + "/openai"
            async with (
                proxied(address, guard, "block") as served,
                openai.AsyncAzureOpenAI(
                    azure_endpoint=served.url.removesuffix("/v1"), api_key=KEY, api_version="2024-10-21"
                ) as client,
            ):
                create = client.chat.completions.with_raw_response.create
                got = await create(model="d", messages=PLAIN)
                assert got.parse().choices[0].message.content == "hi"
                assert (await client.models.retrieve("d")).id == "d"
                got = await create(model="d", messages=[{"role": "user", "content": "odd"}])
                assert got.headers[MODERATED] == "blocked"
            assert [request.target for request in upstream.requests] == [
                "/openai/deployments/d/chat/completions?api-version=2024-10-21",
                "/openai/models/d?api-version=2024-10-21",
            ]
            assert upstream.requests[0].headers["api-key"] == KEY
            assert KEY not in json.dumps(served.lines)

    anyio.run(both)


def test_azures_own_client_on_the_demo() -> None:
    async def both() -> None:
        async with (
            demo() as (url, guard),
            proxied(url, guard, "block") as served,
            openai.AsyncAzureOpenAI(
                base_url=f"{served.url.removesuffix('/v1')}/openai/deployments/demo",
                api_key=KEY,
                api_version="2024-10-21",
            ) as client,
        ):
            got = await client.chat.completions.create(model="whatever", messages=UNSAFE)
            assert got.choices[0].message.content == REFUSAL
            got = await client.chat.completions.create(model="whatever", messages=PLAIN)
            assert got.model == "demo"

    anyio.run(both)
