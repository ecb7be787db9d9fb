"""Requests that two servers may read differently, that never end, or that come for another host."""

import asyncio
import contextlib
import json
from urllib.parse import urlsplit

import anyio
import pytest
from support.faults import answer, serve
from support.proxied import SAFE, Guard, proxied
from support.wire import HANGS_S, ambiguous, connect, framed, oversized, said, statuses

SLOW = 40


def asked(text: str) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode()


HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
HIDDEN = framed(HEAD + b"Connection: close\r\n", asked("hidden"))
AMBIGUOUS = ambiguous(HEAD, asked("shown"), HIDDEN)
OVERSIZED = oversized(HEAD, asked("shown"))


@pytest.mark.parametrize("name", [*AMBIGUOUS, *OVERSIZED])
def test_what_can_be_read_in_two_ways_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    async def both() -> None:
        guard = Guard(SAFE)
        async with serve([], answer()) as upstream, proxied(upstream.url, guard, "block") as served:
            received = await said(served.url, (AMBIGUOUS | OVERSIZED)[name])
            # One refusal, and nothing after it is read as a request.
            assert len(statuses(received)) == 1, received[:500]
            assert 400 <= statuses(received)[0] < 500, received[:500]
            assert upstream.requests == []
            assert "hidden" not in guard.texts
            assert (await served.ask())[0] == "hello"
            assert len(upstream.requests) == 1

    anyio.run(both)
    # Nothing of it on the screen: a broken header may hold a key.
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("line", "headers", "status"),
    [
        (b"POST /v1/chat/completions", b"", 400),
        (b"POST /v1/chat/completions", b"Host: example.com\r\n", 403),
        (b"POST /v1/chat/completions", b"Host: 127.0.0.1.example.com\r\n", 403),
        (b"POST /v1/chat/completions", b"Host: 127.0.0.1\r\nHost: example.com\r\n", 400),
        (b"POST /v1/chat/completions", b"Host: example.com\r\nHost: 127.0.0.1\r\n", 400),
        (b"POST http://127.0.0.1/v1/chat/completions", b"Host: example.com\r\n", 403),
        (b"POST http://example.com/v1/chat/completions", b"Host: 127.0.0.1\r\n", 403),
        (b"POST http://127.0.0.1/v1/chat/completions", b"Host: 127.0.0.1\r\n", 200),
        (b"CONNECT example.com:443", b"Host: 127.0.0.1\r\n", None),
        (b"GET http://169.254.169.254/latest/meta-data", b"Host: 127.0.0.1\r\n", 403),
    ],
)
def test_only_what_is_for_this_host_is_taken(line: bytes, headers: bytes, status: int | None) -> None:
    async def both() -> None:
        async with serve([], answer()) as upstream, proxied(upstream.url, Guard(SAFE), "block") as served:
            head = line + b" HTTP/1.1\r\n" + headers
            head += b"Connection: close\r\nContent-Type: application/json\r\n"
            received = await said(served.url, framed(head, asked("shown")))
            assert len(statuses(received)) == 1, received[:500]
            assert statuses(received)[0] == status or (status is None and statuses(received)[0] >= 400)
            assert len(upstream.requests) == (status == 200)

    anyio.run(both)


def test_requests_in_one_piece_are_answered_in_order_each_once() -> None:
    """Two at once on a connection, proper ones: what comes after a request is never part of it."""

    async def both() -> None:
        async with serve([], answer()) as upstream, proxied(upstream.url, Guard(SAFE), "block") as served:
            received = await said(served.url, framed(HEAD, asked("first")) + HIDDEN)
            assert statuses(received) == [200, 200]
            assert [request.body for request in upstream.requests] == [
                json.dumps(json.loads(body), separators=(",", ":")).encode()
                for body in (asked("first"), asked("hidden"))
            ]

    anyio.run(both)


def test_slow_clients_hold_up_no_other() -> None:
    """Heads and bodies that come a byte at a time: the others are answered, and so is a slow one at last."""
    whole = framed(HEAD + b"Connection: close\r\n", asked("slow"))
    head_only = whole.index(b"\r\n\r\n")

    async def both() -> None:
        async with serve([], answer()) as upstream, proxied(upstream.url, Guard(SAFE), "block") as served:
            slow = [await connect(served.url) for _ in range(SLOW)]
            for number, (_, writer) in enumerate(slow):
                # Some are within their head, the others within their body.
                writer.write(whole[: 30 + number % 20] if number % 2 else whole[: head_only + 6])
            for _ in range(3):
                for number, (_, writer) in enumerate(slow[1:], start=1):
                    writer.write(b"x" if number % 2 else b"\n")
                assert (await served.ask())[0] == "hello"
            assert len(upstream.requests) == 3
            reader, writer = slow[0]
            writer.write(whole[head_only + 6 :])
            async with asyncio.timeout(HANGS_S):
                assert statuses(await reader.read()) == [200]
            assert len(upstream.requests) == 4
        # The server has ended although they never did.
        for reader, writer in slow[1:]:
            with contextlib.suppress(ConnectionError):
                async with asyncio.timeout(HANGS_S):
                    await reader.read()
            writer.close()

    anyio.run(both)


def test_a_body_that_breaks_off_is_not_asked() -> None:
    async def both() -> None:
        guard = Guard(SAFE)
        async with serve([], answer()) as upstream, proxied(upstream.url, guard, "block") as served:
            _, writer = await connect(served.url)
            writer.write(framed(HEAD, asked("shown"))[:-5])
            writer.write_eof()
            assert (await served.ask())[0] == "hello"
            assert len(upstream.requests) == len(guard.asked) == 1
            assert urlsplit(served.url).hostname == "127.0.0.1"
            writer.close()

    anyio.run(both)
