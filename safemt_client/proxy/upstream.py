"""The endpoint behind the moderator: its address, and the forwarding of requests to it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

import aiohttp
import httpx
from aiohttp import web
from multidict import CIMultiDict

from safemt_client.providers.addresses import shown
from safemt_client.providers.errors import InputError
from safemt_client.providers.resources import shortage
from safemt_client.providers.transport import unpacked
from safemt_client.proxy.routes import Addresses
from safemt_client.proxy.wire import ApiError

__all__ = ["MOST", "Upstream", "parse_upstream", "passed_back", "passed_back_with", "pipe", "read_whole"]

MOST = 64 * 2**20
"""Bytes of a request, and of an answer that is held back, at most."""

_BROKEN = (httpx.HTTPError, aiohttp.ClientError, OSError)
_TIMEOUT = {"timeout": {"connect": 30.0}}
_HOP_BY_HOP = {
    *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te"),
    *("trailer", "transfer-encoding", "upgrade"),
}
# Cookies are those of a browser, for another site; the rest belongs to one connection's body.
_NOT_SENT = _HOP_BY_HOP | {
    *("host", "content-length", "content-encoding", "content-type", "accept-encoding", "expect", "cookie"),
}
_NOT_RETURNED = _HOP_BY_HOP | {"content-length", "content-encoding", "set-cookie"}
# An answer that was read is written anew.
_OF_THE_BYTES = {"content-type", "etag", "digest", "content-digest", "repr-digest", "content-md5"}
# What an answer keeps that is replaced: any other header may tell of its text.
_OF_THE_REQUEST = re.compile(
    r"date|server|retry-after(-ms)?|(x-|apim-)?request-id|x-ms-.*|openai-.*|(.*-)?ratelimit(-.*)?",
    re.IGNORECASE,
)


def parse_upstream(text: str) -> httpx.URL:
    """The address up to and with `/v1`, or that of an Azure resource.

    Raises:
        InputError: it is not a plain http or https URL.
    """
    try:
        url = httpx.URL(text)
        valid = url.scheme in ("http", "https") and bool(url.host)
    except (httpx.InvalidURL, ValueError):
        valid = False
    if valid and url.userinfo:
        raise InputError("--upstream: leave the password out of the URL: each request carries its own key")
    if not valid or url.query or url.fragment:
        raise InputError(f"--upstream {shown(text)!r}: write http://HOST:PORT/v1 or https://HOST/v1")
    return url


class Upstream:
    """Forwards requests. Their credentials go to the upstream and nowhere else, and are not kept."""

    def __init__(self, url: httpx.URL, transport: httpx.AsyncBaseTransport) -> None:
        self.addresses = Addresses(url)
        self._transport = transport

    @asynccontextmanager
    async def open(
        self, method: str, address: str, headers: Iterable[tuple[str, str]], content: bytes | None
    ) -> AsyncIterator[httpx.Response]:
        """Send a request; gives the response before its body is read. Leaving it ends the connection.

        Raises:
            ApiError: it cannot be reached, or it redirects: that would carry the key to another host, or lead
                the client past the moderator.
        """
        url = httpx.URL(address)
        given = _end_to_end(headers, _NOT_SENT)
        sent = [("Host", url.netloc.decode()), *given, ("Accept-Encoding", "identity")]
        if content is not None:
            sent.append(("Content-Type", "application/json"))
        try:
            request = httpx.Request(method, url, headers=sent, content=content, extensions=_TIMEOUT)
            response = await self._transport.handle_async_request(request)
        except _BROKEN as error:
            if (lacking := shortage(error)) is not None:
                raise ApiError(503, "overloaded", f"the moderator's machine: {lacking}") from None
            why = f"the upstream cannot be reached: {_why(error)}"
            raise ApiError(502, "upstream_unavailable", why) from None
        try:
            if 300 <= response.status_code < 400:
                raise ApiError(502, "upstream_unavailable", "the upstream redirects to another address")
            yield response
        finally:
            await response.aclose()


async def read_whole(response: httpx.Response) -> bytes:
    """The whole body of a response.

    Raises:
        ApiError: the connection broke, or the body is too large.
    """
    received = bytearray()
    try:
        async for chunk in unpacked(response.headers.get("content-encoding", ""), response.aiter_raw()):
            received += chunk
            if len(received) > MOST:
                raise ApiError(502, "upstream_unavailable", "the upstream's answer is too large")
    except _BROKEN as error:
        raise ApiError(
            502, "upstream_unavailable", f"the connection to the upstream broke: {_why(error)}"
        ) from None
    return bytes(received)


async def pipe(request: web.Request, response: httpx.Response, more: Mapping[str, str]) -> web.StreamResponse:
    """Forward a response as it arrives, with additional headers. If it breaks off, so does the client's."""
    out = web.StreamResponse(status=response.status_code, headers=passed_back(response))
    out.headers.update(more)
    length = response.headers.get("content-length", "")
    if length.isdecimal() and "content-encoding" not in response.headers:
        out.content_length = int(length)
    await out.prepare(request)
    try:
        async for chunk in unpacked(response.headers.get("content-encoding", ""), response.aiter_raw()):
            await out.write(chunk)
        await out.write_eof()
    except _BROKEN:
        # The status is sent already: only a broken connection can still show that this is incomplete.
        if request.transport is not None:
            request.transport.close()
    return out


def passed_back(response: httpx.Response) -> CIMultiDict[str]:
    """The headers of a response that are passed on to the client."""
    raw = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers.raw]
    return CIMultiDict(_end_to_end(raw, _NOT_RETURNED))


def passed_back_with(response: httpx.Response, media_type: str, *, changed: bool) -> CIMultiDict[str]:
    """The headers for a body that is written anew; if it was `changed`, only those about the request."""
    kept = [
        (name, value)
        for name, value in passed_back(response).items()
        if name.lower() not in _OF_THE_BYTES and not (changed and not _OF_THE_REQUEST.fullmatch(name))
    ]
    return CIMultiDict([*kept, ("Content-Type", media_type)])


def _end_to_end(headers: Iterable[tuple[str, str]], dropped: set[str]) -> list[tuple[str, str]]:
    listed = list(headers)
    named = {
        word.strip().lower()
        for name, value in listed
        if name.lower() == "connection"
        for word in value.split(",")
    }
    return [(name, value) for name, value in listed if name.lower() not in dropped | named]


def _why(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
