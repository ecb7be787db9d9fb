"""aiohttp without the certificates that it reads, twice, as it is imported: a third of what its import takes.

They are for whoever names no context of their own; this program always does. For others in its process, what
aiohttp checks certificates with reads them before its first connection instead.
"""

from __future__ import annotations

import os
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["AiohttpTransport", "aiohttp"]

_PLACES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""Variables by which OpenSSL finds the certificates of the system."""


class _LateContext(ssl.SSLContext):
    """Trusts whom `ssl.create_default_context` trusts."""

    _has_read = False

    def wrap_bio(self, *given: Any, **more: Any) -> ssl.SSLObject:
        """Begin TLS in an event loop."""
        self._read()
        return super().wrap_bio(*given, **more)

    def wrap_socket(self, *given: Any, **more: Any) -> ssl.SSLSocket:
        """Begin TLS on a socket."""
        self._read()
        return super().wrap_socket(*given, **more)

    def _read(self) -> None:
        if not self._has_read:
            self.load_default_certs()
            self._has_read = True


@contextmanager
def _nothing_to_read() -> Iterator[None]:
    """Meanwhile no context finds certificates."""
    before = {name: os.environ.get(name) for name in _PLACES}
    os.environ.update(dict.fromkeys(_PLACES, os.devnull))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


if "aiohttp.connector" not in sys.modules:
    with _nothing_to_read():
        from aiohttp import connector
    connector._SSL_CONTEXT_VERIFIED = _LateContext(ssl.PROTOCOL_TLS_CLIENT)
    connector._SSL_CONTEXT_VERIFIED.set_alpn_protocols(("http/1.1",))

import aiohttp  # noqa: E402 - after its connector
from httpx_aiohttp import AiohttpTransport  # noqa: E402
