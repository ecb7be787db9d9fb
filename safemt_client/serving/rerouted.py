"""The way to the servers of this program: requests to their made-up hosts go to where they are at present."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import httpx

from safemt_client.providers.addresses import key_headers
from safemt_client.providers.keys import Key
from safemt_client.providers.transport import HopelessError
from safemt_client.serving.forwarded import EndedError, Remote, forward
from safemt_client.serving.server import ServerDiedError

__all__ = ["Reached", "Rerouted"]


class Reached(Protocol):
    """A server as whoever asks it knows it: `Server` in the process that has it, `PostedServer` elsewhere."""

    requests: int

    @property
    def base_url(self) -> str:
        """Where it is asked at present."""
        ...

    @property
    def key(self) -> Key | None:
        """What it asks for; None if it cannot check one."""
        ...

    async def wait_ready(self) -> None:
        """Return once it runs.

        Raises:
            ServerDiedError: it will not answer any more.
        """
        ...


class Rerouted(httpx.AsyncBaseTransport):
    """A transport to those of these servers that run. Its maker closes the connections below it.

    The `remote` ones are on other machines.
    """

    def __init__(
        self,
        running: Mapping[str, Reached],
        transport: httpx.AsyncBaseTransport,
        remote: Mapping[str, Remote] | None = None,
    ) -> None:
        self._running = running
        self._remote = {} if remote is None else remote
        self._transport = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to a server once it runs.

        Raises:
            HopelessError: it was not started, or has ended for good.
        """
        host = request.url.host
        if (remote := self._remote.get(host)) is not None:
            return await forward(remote, request)
        server = self._running.get(host)
        if server is None:
            raise HopelessError(f"{host}: the server was not started")
        try:
            await server.wait_ready()
        except ServerDiedError as error:
            raise EndedError(str(error)) from None
        server.requests += 1
        base = httpx.URL(server.base_url)
        url = request.url.copy_with(scheme=base.scheme, host=base.host, port=base.port)
        headers = httpx.Headers(request.headers)
        headers["Host"] = url.netloc.decode()
        headers.update(key_headers(server.base_url, server.key))
        return await self._transport.handle_async_request(
            httpx.Request(
                request.method, url, headers=headers, stream=request.stream, extensions=request.extensions
            )
        )
