"""litellm's way to the network made the same as ours: the same proxies, the same trusted certificates.

By itself it asks loopback addresses through a proxy too, and trusts neither the system's certificates nor
`REQUESTS_CA_BUNDLE`.
"""

from __future__ import annotations

import ssl
from typing import Any

from safemt_client.providers.proxies import proxy_for, trust_named

__all__ = ["use_our_network"]


def use_our_network() -> None:
    """Let litellm's clients find proxies and certificates as `proxies` does."""
    from litellm.llms.custom_httpx import aiohttp_transport, http_handler

    def proxy_from_env(self: Any, url: Any) -> str | None:
        place = f"{url.scheme}://{url.netloc.decode()}"
        if place not in self.proxy_cache:
            self.proxy_cache[place] = proxy_for(place)
        found: str | None = self.proxy_cache[place]
        return found

    make = http_handler._create_ssl_context

    def make_context(*args: Any, **options: Any) -> ssl.SSLContext:
        context: ssl.SSLContext = make(*args, **options)
        trust_named(context)
        return context

    aiohttp_transport.LiteLLMAiohttpTransport._proxy_from_env = proxy_from_env  # type: ignore[method-assign]
    http_handler._create_ssl_context = make_context
    # Those that its import has made already, for clients of its own.
    for context in http_handler._ssl_context_cache.values():
        trust_named(context)
