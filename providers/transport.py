"""The HTTP transport: httpx's API over aiohttp's connection pool."""

from __future__ import annotations

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

__all__ = ["make_client"]


def make_client() -> httpx.AsyncClient:
    """A client without redirects, retries, deadlines or limits of its own: others hold those.

    httpx's own pool looks at every connection at each event, so it slows down with their number.
    Redirects are not followed: they could carry a key to another host.
    """

    def session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=30),
            auto_decompress=True,
        )

    return httpx.AsyncClient(transport=AiohttpTransport(client=session), follow_redirects=False, timeout=None)
