"""The HTTP transport: aiohttp's connection pool, asked directly by `fetch` and by others through httpx's API.

httpx's requests, responses and headers cost as much as all of aiohttp: what is sent thousands of times a
minute goes without them, prepared once for each address.
"""

from __future__ import annotations

import base64
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport
from multidict import CIMultiDict
from yarl import URL

from safemt_client import __version__
from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.proxies import certificates_for, proxy_for
from safemt_client.providers.resources import shortage

__all__ = [
    "FAILURES",
    "BodyTooLargeError",
    "ConnectionFailedError",
    "HopelessError",
    "Response",
    "ShortageError",
    "UnreadableBodyError",
    "UntrustedError",
    "fetch",
    "make_headers",
    "make_transport",
    "unpacked",
    "untrusted",
]

_PIECE = 64 * 1024
_STREAM = "text/event-stream"
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNKNOWN_PROTOCOL")
_CONNECT_S = 30.0
FAILURES = (httpx.HTTPError, aiohttp.ClientError, OSError)
"""What a transport raises where no whole response comes: through httpx's API some of aiohttp's own too."""
_TIMEOUT = aiohttp.ClientTimeout(sock_connect=_CONNECT_S)


class ConnectionFailedError(Exception):
    """No complete response arrived. The message is one clear line."""


class ShortageError(ConnectionFailedError):
    """This machine lacks what a connection needs: nothing was sent."""


class HopelessError(ConnectionFailedError):
    """What is asked will not answer, however often it is tried; `code` says why."""

    code: ClassVar[ErrorCode] = ErrorCode.CONFIGURATION


class UntrustedError(HopelessError):
    """There is no trusted connection to the host, however often it is tried."""


class BodyTooLargeError(Exception):
    """The body is larger than the program reads; `status` is the response's."""

    def __init__(self, status: int, limit: int) -> None:
        super().__init__(f"the response is larger than {limit} bytes")
        self.status = status


class UnreadableBodyError(Exception):
    """The body is compressed as it was not asked for; `status` is the response's."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status


class _UnknownEncodingError(httpx.DecodingError):
    """A compression that nobody asked for."""


@dataclass(frozen=True, slots=True)
class Response:
    """A whole response; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def make_headers(url: httpx.URL, **more: str) -> CIMultiDict[str]:
    """What every request to `url` carries, and more of its own: an underscore in a name is a hyphen."""
    return CIMultiDict(
        {
            "Host": url.netloc.decode(),
            "Accept": "application/json",
            "Accept-Encoding": "gzip, deflate",
            "User-Agent": f"safemt_client/{__version__}",
        }
        | {name.replace("_", "-"): value for name, value in more.items()}
    )


def make_transport() -> httpx.AsyncBaseTransport:
    """A transport without redirects, retries, deadlines or limits of its own: its callers provide those.

    httpx's own pool looks at every connection at each event, so it slows down with their number.
    Redirects are not followed, since they could carry a key to another host; cookies are not kept. Proxies
    and certificates are those of the environment: see `proxies`. A request raises an `InputError` where they
    cannot be used.
    """
    return _Ways()


def _proxy(url: str | None) -> httpx.Proxy | None:
    """A proxy with its credentials in a header, where aiohttp wants them."""
    if url is None:
        return None
    parts = httpx.URL(url)
    if not parts.userinfo:
        return httpx.Proxy(url)
    code = base64.b64encode(f"{parts.username}:{parts.password}".encode()).decode()
    return httpx.Proxy(
        parts.copy_with(username=None, password=None), headers={"Proxy-Authorization": f"Basic {code}"}
    )


class _Way:
    """One way to a host: directly or through a proxy, over TLS or not, on connections of its own."""

    def __init__(self, proxy: httpx.Proxy | None, certificates: ssl.SSLContext | None) -> None:
        # Without certificates nothing is asked over TLS: this trusts nobody.
        self._context = certificates or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.proxy = proxy
        self._through: dict[str, Any] = {}
        if proxy is not None:
            self._through = {"proxy": str(proxy.url), "proxy_headers": dict(proxy.headers)}

    @cached_property
    def session(self) -> aiohttp.ClientSession:
        """Opened at the first request, when the loop runs."""
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300, ssl=self._context),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )

    @cached_property
    def by_httpx(self) -> httpx.AsyncBaseTransport:
        """The same connections behind httpx's API."""
        return AiohttpTransport(client=self.session, verify=self._context, proxy=self.proxy)

    async def begin(
        self, method: str, url: URL, headers: CIMultiDict[str], content: bytes | None
    ) -> aiohttp.ClientResponse:
        """Send a request, and return the response as it begins."""
        if self.proxy is not None and url.scheme == "http":
            # Without a tunnel the request itself carries them, as far as the proxy.
            headers = headers.copy()
            headers.update(self._through["proxy_headers"])
        return await self.session.request(
            method,
            url,
            headers=headers,
            data=content,
            allow_redirects=False,
            timeout=_TIMEOUT,
            **self._through,
        )

    async def close(self) -> None:
        """Close the connections."""
        if "session" in self.__dict__:
            await self.session.close()


class _Ways(httpx.AsyncBaseTransport):
    """Sends each request the way that its host needs."""

    def __init__(self) -> None:
        self._ways: dict[tuple[str | None, ssl.SSLContext | None], _Way] = {}
        self._hosts: dict[tuple[str, str | None, int | None], _Way] = {}

    def way(self, url: URL) -> _Way:
        """The way to the host of this address."""
        host = url.scheme, url.raw_host, url.explicit_port
        if (known := self._hosts.get(host)) is not None:
            return known
        proxy = proxy_for(str(url))
        certificates = certificates_for(str(url), proxy)
        if (proxy, certificates) not in self._ways:
            self._ways[proxy, certificates] = _Way(_proxy(proxy), certificates)
        found = self._hosts[host] = self._ways[proxy, certificates]
        return found

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it, and return the response as it begins."""
        way = self.way(URL(str(request.url)))
        if way.proxy is not None and request.url.scheme == "http":
            request.headers.update(way.proxy.headers)
        return await way.by_httpx.handle_async_request(request)

    async def aclose(self) -> None:
        """Close the connections of all ways."""
        for way in self._ways.values():
            await way.close()


def unpacked(encoding: str, received: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A body in small pieces, however it was compressed; `encoding` is its `Content-Encoding`.

    httpx and aiohttp decompress each received piece completely, layer by layer: 100 KB of gzip in gzip become
    as many GB at once, before the caller can count them.

    Raises:
        httpx.DecodingError: compressed more than once or not as requested, or corrupt.
    """
    packed = [name for name in map(str.strip, encoding.lower().split(",")) if name not in ("", "identity")]
    return _unpacked(packed, received) if packed else received


async def _unpacked(packed: list[str], received: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if len(packed) > 1 or packed[0] not in ("gzip", "x-gzip", "deflate"):
        raise _UnknownEncodingError(
            f"the body is compressed with {', '.join(packed)[:80]}, which was not asked for"
        )
    unpack, begun = zlib.decompressobj(zlib.MAX_WBITS | 32), False
    async for data in received:
        while data and not unpack.eof:
            try:
                piece = unpack.decompress(data, _PIECE)
            except zlib.error:
                if begun or packed[0] != "deflate":
                    raise httpx.DecodingError("the compressed body is corrupt") from None
                # Some servers send deflate without its header.
                unpack, begun = zlib.decompressobj(-zlib.MAX_WBITS), True
                continue
            begun, data = True, unpack.unconsumed_tail
            yield piece
    if begun and not unpack.eof:
        raise httpx.DecodingError("the compressed body is incomplete")


@dataclass(slots=True)
class _Begun:
    """A response whose body is still to be read; `end` gives its connection back."""

    status: int
    headers: dict[str, str]
    body: AsyncIterator[bytes]
    end: Callable[[], Awaitable[None]]


def _plain(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    # A plain mapping: httpx's own decodes at each look-up.
    return {name.decode().lower(): value.decode("latin-1") for name, value in raw}


async def _begin(
    transport: httpx.AsyncBaseTransport,
    method: str,
    url: URL,
    headers: CIMultiDict[str],
    content: bytes | None,
) -> _Begun:
    if isinstance(transport, _Ways):
        direct = await transport.way(url).begin(method, url, headers, content)
        end = partial(direct.__aexit__, None, None, None)
        return _Begun(direct.status, _plain(direct.raw_headers), direct.content.iter_any(), end)
    asked = httpx.Request(
        method,
        str(url),
        headers=list(headers.items()),
        content=content,
        extensions={"timeout": {"connect": _CONNECT_S}},
    )
    response = await transport.handle_async_request(asked)
    return _Begun(response.status_code, _plain(response.headers.raw), response.aiter_raw(), response.aclose)


async def fetch(
    transport: httpx.AsyncBaseTransport,
    method: str,
    url: URL,
    *,
    headers: CIMultiDict[str],
    content: bytes | None = None,
    most: int,
) -> Response:
    """Send one request and read the whole response, at most `most` bytes of it.

    A transport of `make_transport` is asked without httpx's API, any other one through it. Of a stream of
    events that breaks off, what came of it is the response.

    Raises:
        UntrustedError: the host's certificate is not to be trusted, or it speaks no TLS.
        ShortageError: this machine lacks what a connection needs.
        ConnectionFailedError: the connection broke before the response was whole.
        BodyTooLargeError: the body is larger than `most`.
        UnreadableBodyError: the body is compressed as it was not asked for.
    """
    try:
        response = await _begin(transport, method, url, headers, content)
        try:
            received = bytearray()
            try:
                async for chunk in unpacked(response.headers.get("content-encoding", ""), response.body):
                    received += chunk
                    if len(received) > most:
                        raise BodyTooLargeError(response.status, most)
            except FAILURES:
                # A stream says itself whether it is whole, and what came of it is paid for.
                if not (_STREAM in response.headers.get("content-type", "") and b"data:" in received):
                    raise
        except _UnknownEncodingError as error:
            raise UnreadableBodyError(response.status, str(error)) from None
        finally:
            await response.end()
    except FAILURES as error:
        if (why := untrusted(error, url.host or "")) is not None:
            raise UntrustedError(why) from error
        if (why := shortage(error)) is not None:
            raise ShortageError(why) from error
        # The transport's own class names mislead: a dropped connection comes as a time-out.
        said = str(error) or type(error).__name__
        if said.startswith("<RawResponseMessage"):
            said = "closed within the headers"
        raise ConnectionFailedError(f"connection failed: {said}") from error
    return Response(response.status, response.headers, bytes(received))


def untrusted(error: BaseException, host: str) -> str | None:
    """Why no secure connection to a host can be made, None if one may be made later."""
    cause: BaseException | None = error
    while cause is not None:
        # aiohttp's own classes are among these too, and say it otherwise.
        found = getattr(cause, "certificate_error", cause)
        if isinstance(found, ssl.SSLCertVerificationError):
            said = getattr(found, "verify_message", str(found))
            return (
                f"the certificate of {host} is not trusted ({said}): "
                "if it should be, name the file of its authority in SSL_CERT_FILE"
            )
        if isinstance(cause, ssl.SSLError) and (reason := getattr(cause, "reason", None)) in _NO_TLS:
            return f"{host} does not answer in TLS ({reason}): is it http:// instead of https://?"
        cause = cause.__cause__ or cause.__context__
    return None
