"""The HTTP transport: httpx's API over aiohttp's connection pool."""

from __future__ import annotations

import ssl

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

__all__ = ["make_transport"]


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
