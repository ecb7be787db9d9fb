"""Connections of clients: taken only while there are files for them and for what they ask for."""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import ExitStack, asynccontextmanager, suppress

import anyio
from aiohttp import web

from safemt_client.providers.resources import shortage

__all__ = ["FILES_A_CLIENT", "bind", "taking"]

FILES_A_CLIENT = 4
"""Its own connection, those to the upstream and to the guard, and one that is just being replaced."""

_BACKLOG, _AT_ONCE = 1024, 128
_PAUSE_S = 0.1
_GONE = (errno.ECONNABORTED, errno.EPROTO)


@asynccontextmanager
async def taking(
    sockets: Iterable[socket.socket], server: web.Server, most: int | None
) -> AsyncIterator[None]:
    """Hand connections over to `server` while the context lasts, at most so many at a time; then close all.

    Those beyond wait in the system's queue. aiohttp's own sites take every connection, until there is no file
    left to ask anybody with.
    """
    with ExitStack() as stack:
        async with anyio.create_task_group() as group:
            for one in sockets:
                group.start_soon(_take, stack.enter_context(one), server, most)
            yield
            group.cancel_scope.cancel()


async def bind(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen on all addresses of a host, on the same port; port 0 is any that is free.

    Raises:
        OSError: an address is not available.
    """
    found = await asyncio.get_running_loop().getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            try:
                one = socket.socket(family, socket.SOCK_STREAM)
            except OSError as error:
                if error.errno == errno.EAFNOSUPPORT and len(found) > 1:
                    continue
                raise
            sockets.append(one)
            one.setblocking(False)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            # A name with several addresses has one port on all of them.
            chosen = port or sockets[0].getsockname()[1]
            one.bind((address[0], chosen, *address[2:]))
            one.listen(_BACKLOG)
    except OSError:
        for one in sockets:
            one.close()
        raise
    return sockets


async def _take(listener: socket.socket, server: web.Server, most: int | None) -> None:
    loop, told = asyncio.get_running_loop(), False
    while True:
        room = _AT_ONCE if most is None else min(_AT_ONCE, most - len(server.connections))
        if room <= 0:
            await anyio.sleep(_PAUSE_S)
            continue
        try:
            taken = [(await loop.sock_accept(listener))[0]]
        except OSError as error:
            if error.errno in _GONE:
                continue
            if not told:
                told = True
                print(f"safemt: clients have to wait: {shortage(error) or error.strerror}", file=sys.stderr)
            await anyio.sleep(_PAUSE_S)
            continue
        # Those that wait already: one for each turn of the loop would let the system's queue run over.
        with suppress(OSError):
            while len(taken) < room:
                taken.append(listener.accept()[0])
        for connection in taken:
            connection.setblocking(False)
            try:
                await loop.connect_accepted_socket(server, connection)
            except OSError:
                connection.close()
