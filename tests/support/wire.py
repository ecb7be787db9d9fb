"""Requests as bytes: such that two servers may read them differently, and such that never come to their end."""

from __future__ import annotations

import asyncio
import re
from urllib.parse import urlsplit

HANGS_S = 30  # Only a server that neither answers nor closes reaches this.


def chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (*parts, b""))


def framed(head: bytes, body: bytes) -> bytes:
    """A proper request; `head` is its first lines."""
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def ambiguous(head: bytes, body: bytes, hidden: bytes) -> dict[str, bytes]:
    """Requests whose end, or whose headers, may be read in two ways; `hidden` is a whole request inside.

    `head` is a proper request line with proper headers, `body` a proper body.
    """
    length, chunks = b"Content-Length: %d\r\n" % len(body), chunked(body)
    coded = b"Transfer-Encoding: chunked\r\n"
    line, rest = head.split(b"\r\n", 1)
    broken = {
        "hexadecimal-prefix": b"0x%x\r\n%s\r\n0\r\n\r\n" % (len(body), body),
        "sign": b"+%x\r\n%s\r\n0\r\n\r\n" % (len(body), body),
        "negative": b"-1\r\n" + body + b"\r\n0\r\n\r\n",
        "underscore": b"1_0\r\n" + body + b"\r\n0\r\n\r\n",
        "overflow": b"1%016x\r\n%s\r\n0\r\n\r\n" % (len(body), body),
        "no-size": b"\r\n" + body + b"\r\n0\r\n\r\n",
        "longer-than-stated": b"%x\r\n%sXX\r\n0\r\n\r\n" % (len(body), body),
        "line-feed-in-extension": b"%x;a\nb\r\n%s\r\n0\r\n\r\n" % (len(body), body),
    }
    return {
        "length-then-chunks": head
        + b"Content-Length: %d\r\n" % (5 + len(hidden))
        + coded
        # One reader sees an empty body and another request, the other one body.
        + b"\r\n0\r\n\r\n"
        + hidden,
        "chunks-then-length": head + coded + b"Content-Length: 4\r\n\r\n" + chunked(hidden),
        "two-lengths": head + length + b"Content-Length: 0\r\n\r\n" + body + hidden,
        "a-list-of-lengths": head + b"Content-Length: %d, 0\r\n\r\n" % len(body) + body + hidden,
        "length-with-a-sign": head + b"Content-Length: +%d\r\n\r\n" % len(body) + body + hidden,
        "length-in-hexadecimal": head + b"Content-Length: 0x%x\r\n\r\n" % len(body) + body + hidden,
        "length-that-is-none": head + b"Content-Length: many\r\n\r\n" + body + hidden,
        "unknown-coding": head + b"Transfer-Encoding: xchunked\r\n\r\n" + chunks + hidden,
        "coding-after-chunked": head + b"Transfer-Encoding: chunked, identity\r\n\r\n" + chunks + hidden,
        "two-codings": head + coded + b"Transfer-Encoding: identity\r\n\r\n" + chunks + hidden,
        "blank-before-the-colon": head
        + b"Transfer-Encoding : chunked\r\n"
        + length
        + b"\r\n"
        + body
        + hidden,
        "tab-in-the-coding": head + b"Transfer-Encoding: \x0bchunked\r\n" + length + b"\r\n" + body + hidden,
        "carriage-return-alone": head + b"X-A: b\rContent-Length: 0\r\n" + length + b"\r\n" + body + hidden,
        "nul-in-a-header": head + b"X-A: b\x00c\r\n" + length + b"\r\n" + body + hidden,
        "header-without-a-colon": head + b"X-A\r\n" + length + b"\r\n" + body + hidden,
        "blank-first-header": line + b"\r\n X-A: b\r\n" + rest + length + b"\r\n" + body + hidden,
        **{f"chunk-{name}": head + coded + b"\r\n" + chunks + hidden for name, chunks in broken.items()},
    }


def oversized(head: bytes, body: bytes) -> dict[str, bytes]:
    """Heads that no client needs."""
    length = b"Content-Length: %d\r\n\r\n" % len(body)
    method, target, rest = head.split(b" ", 2)
    return {
        "huge-header": head + b"X-A: " + b"a" * 1_000_000 + b"\r\n" + length + body,
        "huge-name": head + b"a" * 1_000_000 + b": b\r\n" + length + body,
        "many-headers": head
        + b"".join(b"X-%d: %s\r\n" % (n, b"b" * 90) for n in range(5000))
        + length
        + body,
        "huge-target": b" ".join((method, target + b"?" + b"a" * 1_000_000, rest)) + length + body,
    }


async def said(url: str, sent: bytes) -> bytes:
    """All that a server says to these bytes until it closes the connection."""
    async with asyncio.timeout(HANGS_S):
        reader, writer = await connect(url)
        received = b""
        try:
            writer.write(sent)
            while part := await reader.read(65536):
                received += part
        except ConnectionError:
            # It closed without reading all that was sent.
            pass
        finally:
            writer.close()
        return received


async def connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address = urlsplit(url)
    return await asyncio.open_connection(address.hostname, address.port)


def statuses(received: bytes) -> list[int]:
    """The statuses of the responses in these bytes, first to last."""
    return [int(found) for found in re.findall(rb"HTTP/1\.[01] (\d{3}) ", received)]
