"""The server: which paths are served, which hosts are accepted, and errors in OpenAI's format."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import anyio
import httpx
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from safemt_client.moderator.moderator import Moderator
from safemt_client.providers.errors import InputError
from safemt_client.providers.keys import is_loopback
from safemt_client.providers.quiet import SILENT
from safemt_client.providers.resources import calls_at_once
from safemt_client.providers.transport import make_transport
from safemt_client.proxy.decisions import DecisionLog
from safemt_client.proxy.listening import FILES_A_CLIENT, bind, taking
from safemt_client.proxy.moderated import Proxy
from safemt_client.proxy.routes import CHAT, MODELS, closed
from safemt_client.proxy.upstream import MOST, Upstream
from safemt_client.proxy.wire import ApiError

__all__ = ["serve_proxy"]

_KEPT_S = 3630.0  # longer than a proxy before it keeps a connection
_MANY = 64


@asynccontextmanager
async def serve_proxy(
    moderator: Moderator, upstream: httpx.URL, log: DecisionLog, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[str]:
    """Serve while the context lasts; gives the base URL for clients.

    Raises:
        InputError: the address is not available.
    """
    async with make_transport() as transport, anyio.create_task_group() as group:
        proxy = Proxy(moderator, Upstream(upstream, transport), log, group)
        app = web.Application(client_max_size=MOST, middlewares=[_checks(is_loopback(host))])
        for path in CHAT:
            app.router.add_post(path, proxy.chat)
        for path in MODELS:
            app.router.add_get(path, proxy.models, allow_head=False)
        app.router.add_route("*", "/{path:.*}", _closed)
        most = calls_at_once(FILES_A_CLIENT)
        # Without cancellation, the answer to a client that has disconnected would still be paid for.
        runner = web.AppRunner(
            app,
            access_log=None,
            logger=SILENT,
            shutdown_timeout=1,
            handler_cancellation=True,
            # Where few may be connected, none stays so for nothing.
            keepalive_timeout=_KEPT_S if most is None or most > _MANY else 1,
        )
        await runner.setup()
        assert runner.server is not None
        try:
            try:
                sockets = await bind(host, port)
            except OSError as error:
                why = error.strerror or str(error)
                raise InputError(f"--host {host} --port {port}: {why}: choose another address") from None
            async with taking(sockets, runner.server, most):
                shown = f"[{host}]" if ":" in host else host
                yield f"http://{shown}:{sockets[0].getsockname()[1]}/v1"
        finally:
            with anyio.CancelScope(shield=True):
                await runner.cleanup()
            group.cancel_scope.cancel()


async def _closed(request: web.Request) -> web.StreamResponse:
    raise closed(request)


def _checks(loopback: bool) -> Middleware:
    @web.middleware
    async def checked(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            # A web page whose name resolves to this machine sends that name (DNS rebinding).
            # `request.host` is the target's if that names one.
            named = (request.headers.get("Host", ""), request.host)
            if loopback and not all(map(_is_here, named)):
                raise ApiError(
                    403, "forbidden", "use 127.0.0.1 or localhost: this server is for its own machine only"
                )
            return await handler(request)
        except ApiError as error:
            return _answer(error)
        except web.HTTPException as error:
            return _answer(ApiError(error.status, "invalid_request_error", error.reason))
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an error and no answer
            print(f"safemt: internal error: {type(error).__name__}", file=sys.stderr)
            return _answer(
                ApiError(500, "internal_error", "the moderator failed, so nothing was let through")
            )

    return checked


def _is_here(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return name is not None and is_loopback(name)


def _answer(error: ApiError) -> web.Response:
    return web.Response(
        status=error.status, body=error.body, headers=error.headers | {"content-type": "application/json"}
    )
