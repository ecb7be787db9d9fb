"""Streams through the proxy: as they come, held, blocked, broken off."""

import asyncio
import json

import anyio
import anyio.lowlevel
import httpx
import openai
import pytest
from support.faults import raw, response, serve
from support.proxied import (
    BAD,
    LAST,
    MODERATED,
    PLAIN,
    REFUSAL,
    SAFE,
    USAGE,
    VERDICT,
    Guard,
    by_word,
    piece,
    proxied,
    sse,
)


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
            piece("o", logprobs={"content": [{"token": "odd", "logprob": -0.1}]}),
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
                with pytest.raises(openai.InternalServerError, match="connection to the upstream broke"):
                    await served.ask(stream=True)

    anyio.run(both)
