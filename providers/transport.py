"""The HTTP transport: httpx's API over aiohttp's connection pool."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from safemt_client import __version__

__all__ = [
    "BodyTooLargeError",
    "ConnectionFailedError",
    "Response",
    "fetch",
    "make_headers",
    "make_transport",
]

_CONNECT_TIMEOUT = {"timeout": {"connect": 30.0}}


class ConnectionFailedError(Exception):
    """No whole response came. The message is one clear line."""


class BodyTooLargeError(Exception):
    """The body passed what is taken; `status` is the response's."""

    def __init__(self, status: int, limit: int) -> None:
        super().__init__(f"the response is larger than {limit} bytes")
        self.status = status


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
    """A transport without redirects, retries, deadlines or limits of its own: others hold those.

    httpx's own pool looks at every connection at each event, so it slows down with their number.
    Redirects are not followed, since they could carry a key to another host; the environment's
    proxies and cookies are not used.
    """

    context = ssl.create_default_context()

    def session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300, ssl=context),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    return AiohttpTransport(client=session, verify=context)


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

    Straight to the transport: a client's cookies, redirects and hooks double the cost of a call.

    Raises:
        ConnectionFailedError: the connection broke before the response was whole.
        BodyTooLargeError: the body is larger than `most`.
    """
    try:
        asked = httpx.Request(method, url, headers=headers, content=content, extensions=_CONNECT_TIMEOUT)
        response = await transport.handle_async_request(asked)
        try:
            received = bytearray()
            async for chunk in response.aiter_bytes():
                received += chunk
                if len(received) > most:
                    raise BodyTooLargeError(response.status_code, most)
        finally:
            await response.aclose()
    except (httpx.HTTPError, aiohttp.ClientError, OSError) as error:
        # The transport's own class names mislead: a dropped connection comes as a time-out.
        raise ConnectionFailedError(f"connection failed: {str(error) or type(error).__name__}") from error
    # A plain mapping: httpx's own decodes at each look-up.
    plain = {name.decode().lower(): value.decode("latin-1") for name, value in response.headers.raw}
    return Response(response.status_code, plain, bytes(received))
