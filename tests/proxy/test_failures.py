"""Upstreams, guards and clients that fail behind and before the proxy."""

import asyncio
import json

import anyio
import anyio.lowlevel
import httpx
import openai
import pytest
from support.faults import answer, error, raw, response, serve
from support.proxied import (
    BAD,
    DEAD,
    KEY,
    MODERATED,
    NONSENSE,
    PLAIN,
    REFUSAL,
    SAFE,
    Guard,
    by_word,
    piece,
    proxied,
    sse,
)

from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.errors import TargetStoppedError
from safemt_client.providers.types import Reply


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
            for said in ("redirects to another address", "cannot be reached"):
                with pytest.raises(openai.InternalServerError, match=said) as failed:
                    await served.ask()
                assert failed.value.status_code == 502
            assert len(upstream.requests) == 4

    anyio.run(both)


def stopped() -> Guard:
    async def says(text: str) -> Reply:
        said = f"authentication failed (HTTP 401): check the API key: {text} {KEY}"
        raise TargetStoppedError(said, code=ErrorCode.AUTHENTICATION, status=401)

    return Guard(says)


FAILING = {"error": lambda: Guard(DEAD), "unparsed": lambda: Guard(NONSENSE), "stopped": stopped}
CODES = {"error": "connection_failed", "unparsed": "guard_unparsed", "stopped": "authentication"}


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
                assert line["error_code"] == CODES[kind]
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
    assert ("stopped: authentication (HTTP 401)" in told) == (kind == "stopped")


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
                assert served.lines[0]["error_code"] == "guard_failed"
            async with proxied(upstream.url, Guard(breaks), "block", on_error="pass") as served:
                with pytest.raises(openai.InternalServerError, match="nothing was let through"):
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
