"""`safemt moderate`: from the command line to a running server."""

from __future__ import annotations

import argparse
import math
import signal
import sys

import anyio
import httpx

from safemt_client.loading import load_settings
from safemt_client.models import open_models
from safemt_client.providers.addresses import shown
from safemt_client.providers.errors import InputError
from safemt_client.providers.keys import clear_text_warning, is_loopback
from safemt_client.providers.pauses import PAUSES
from safemt_client.providers.proxies import certificates_for, proxy_for
from safemt_client.providers.signals import heard
from safemt_client.providers.vendors import DEMO_TARGET
from safemt_client.proxy.decisions import Recent, open_log
from safemt_client.proxy.server import serve_proxy
from safemt_client.proxy.upstream import parse_upstream
from safemt_client.settings import TABLES, RunSettings, options

__all__ = ["moderate"]


async def moderate(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C; return the exit status.

    Raises:
        InputError: an option is wrong, or the address is not available.
    """
    demo = arguments.upstream == DEMO_TARGET
    upstream = None if demo else parse_upstream(arguments.upstream)
    settings = _settings(arguments)
    _check_address(arguments.host, arguments.port, allow_remote=arguments.allow_remote)
    clear_text_warning(None if upstream is None else str(upstream))
    if upstream is not None:
        proxy = proxy_for(str(upstream))
        # What cannot be used is said before the server runs.
        certificates_for(str(upstream), proxy)
        if proxy is not None:
            _tell(f"{upstream.host} is asked through the proxy {shown(proxy)}")
    async with open_models(settings) as models, open_log(arguments.log, texts=arguments.log_texts) as log:
        if upstream is None:
            upstream = httpx.URL(models.spec(DEMO_TARGET).base_url or "")
        (moderator,) = await models.moderators_of_settings()
        assert moderator is not None
        for note in (*models.routes.notes, *models.limits.notes(), *models.local.notes):
            _tell(note)
        await models.start(models.guards_on.values(), _tell)
        moderator.assessor.cache = Recent()
        async with anyio.create_task_group() as group:
            group.start_soon(PAUSES.watch, _tell)
            with heard(signal.SIGINT, signal.SIGTERM) as signals:
                async with serve_proxy(
                    moderator, upstream, log, host=arguments.host, port=arguments.port
                ) as address:
                    print(f"{address} (guard {arguments.moderator}, upstream {upstream})", flush=True)
                    async for _ in signals:
                        break
            group.cancel_scope.cancel()
    _tell("stopped")
    return 0


def _tell(note: str) -> None:
    print(f"safemt: {note}", file=sys.stderr)


def _settings(arguments: argparse.Namespace) -> RunSettings:
    if arguments.moderator == "none":
        raise InputError("--moderator none: name a guard, such as llama-guard-4=MODEL@http://HOST:PORT/v1")
    given = {name: getattr(arguments, name) for name in options("moderate")}
    # A user waits while the guard is asked: this limits all its attempts together.
    limit = arguments.guard_timeout
    if not 0 < limit < math.inf:
        raise InputError(f"--guard-timeout {limit}: write seconds, such as 60")
    times = {"max_wait": limit, "attempt_timeout": limit, "turn_timeout": limit}
    target = {"provider": [arguments.upstream], "judge": ["none"], "moderator": [arguments.moderator]}
    return load_settings(given | times | target, arguments.config, only=(*given, *TABLES))


def _check_address(host: str, port: int, *, allow_remote: bool) -> None:
    if not 0 <= port <= 65_535:
        raise InputError(f"--port {port}: choose a port from 1 to 65535, or 0 for any free one")
    if is_loopback(host):
        return
    if not allow_remote:
        raise InputError(
            f"--host {host}: other machines could reach this server: add --allow-remote to allow that, "
            "or leave out --host"
        )
    _tell(f"anyone who can reach {host} can use this guard and upstream")
