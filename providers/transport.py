"""The HTTP transport: httpx's API over aiohttp's connection pool."""

from __future__ import annotations

import base64
import ssl
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from safemt_client import __version__
from safemt_client.providers.proxies import certificates_for, proxy_for
from safemt_client.providers.resources import shortage

__all__ = [
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
_CONNECT_TIMEOUT = {"timeout": {"connect": 30.0}}


class ConnectionFailedError(Exception):
    """No complete response arrived. The message is one clear line."""


class ShortageError(ConnectionFailedError):
    """This machine lacks what a connection needs: nothing was sent."""


class HopelessError(ConnectionFailedError):
    """What is asked will not answer, however often it is tried."""


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
    headers: dict[str, str]
    body: bytes


def make_headers(url: httpx.URL, **more: str) -> httpx.Headers:
    """What every request to `url` carries, and more of its own: an underscore in a name is a hyphen."""
    return httpx.Headers(
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


def _open(proxy: httpx.Proxy | None, certificates: ssl.SSLContext | None) -> httpx.AsyncBaseTransport:
    # Without certificates nothing is asked over TLS: this trusts nobody.
    context = certificates or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    def session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300, ssl=context),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    return AiohttpTransport(client=session, verify=context, proxy=proxy)


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


_Way = tuple[httpx.AsyncBaseTransport, httpx.Proxy | None]


class _Ways(httpx.AsyncBaseTransport):
    """Sends each request the way that its host needs: directly or through a proxy, over TLS or not."""

    def __init__(self) -> None:
        self._ways: dict[tuple[str | None, ssl.SSLContext | None], _Way] = {}
        self._hosts: dict[tuple[str, str, int | None], _Way] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it, and return the response as it begins."""
        host = request.url.scheme, request.url.host, request.url.port
        if host not in self._hosts:
            self._hosts[host] = self._way(str(request.url))
        way, proxy = self._hosts[host]
        if proxy is not None and request.url.scheme == "http":
            # Without a tunnel the request itself carries them, as far as the proxy.
            request.headers.update(proxy.headers)
        return await way.handle_async_request(request)

    def _way(self, url: str) -> _Way:
        proxy = proxy_for(url)
        certificates = certificates_for(url, proxy)
        if (proxy, certificates) not in self._ways:
            through = _proxy(proxy)
            self._ways[proxy, certificates] = _open(through, certificates), through
        return self._ways[proxy, certificates]

    async def aclose(self) -> None:
        """Close the connections of all ways."""
        for way, _ in self._ways.values():
            await way.aclose()


async def unpacked(response: httpx.Response) -> AsyncIterator[bytes]:
    """The body of a response in small pieces, however it was compressed.

    httpx decompresses each received piece completely, layer by layer: 100 KB of gzip in gzip become as
    many GB at once, before the caller can count them.

    Raises:
        httpx.DecodingError: compressed more than once or not as requested, or corrupt.
    """
    stated = response.headers.get("content-encoding", "").lower().split(",")
    packed = [name for name in map(str.strip, stated) if name not in ("", "identity")]
    if not packed:
        async for chunk in response.aiter_raw():
            yield chunk
        return
    if len(packed) > 1 or packed[0] not in ("gzip", "x-gzip", "deflate"):
        raise _UnknownEncodingError(
            f"the body is compressed with {', '.join(packed)[:80]}, which was not asked for"
        )
    unpack, begun = zlib.decompressobj(zlib.MAX_WBITS | 32), False
    async for data in response.aiter_raw():
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


async def fetch(
    transport: httpx.AsyncBaseTransport,
    method: str,
    url: httpx.URL,
    *,
    headers: httpx.Headers,
    content: bytes | None = None,
    most: int,
) -> Response:
    """Send one request and read the whole response, at most `most` bytes of it.

    Straight to the transport: a client's cookies, redirects and hooks double the cost of a call. Of a stream
    of events that breaks off, what came of it is the response.

    Raises:
        UntrustedError: the host's certificate is not to be trusted, or it speaks no TLS.
        ShortageError: this machine lacks what a connection needs.
        ConnectionFailedError: the connection broke before the response was whole.
        BodyTooLargeError: the body is larger than `most`.
        UnreadableBodyError: the body is compressed as it was not asked for.
    """
    try:
        asked = httpx.Request(method, url, headers=headers, content=content, extensions=_CONNECT_TIMEOUT)
        response = await transport.handle_async_request(asked)
        try:
            received = bytearray()
            try:
                async for chunk in unpacked(response):
                    received += chunk
                    if len(received) > most:
                        raise BodyTooLargeError(response.status_code, most)
            except (httpx.HTTPError, aiohttp.ClientError, OSError):
                # A stream says itself whether it is whole, and what came of it is paid for.
                if not (_STREAM in response.headers.get("content-type", "") and b"data:" in received):
                    raise
        except _UnknownEncodingError as error:
            raise UnreadableBodyError(response.status_code, str(error)) from None
        finally:
            await response.aclose()
    except (httpx.HTTPError, aiohttp.ClientError, OSError) as error:
        if (why := untrusted(error, url.host)) is not None:
            raise UntrustedError(why) from error
        if (why := shortage(error)) is not None:
            raise ShortageError(why) from error
        # The transport's own class names mislead: a dropped connection comes as a time-out.
        said = str(error) or type(error).__name__
        if said.startswith("<RawResponseMessage"):
            said = "closed within the headers"
        raise ConnectionFailedError(f"connection failed: {said}") from error
    # A plain mapping: httpx's own decodes at each look-up.
    plain = {name.decode().lower(): value.decode("latin-1") for name, value in response.headers.raw}
    return Response(response.status_code, plain, bytes(received))


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
