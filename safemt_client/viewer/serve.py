"""Starting and stopping the viewer: the socket, the token and the browser."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import sys
import threading
import webbrowser
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from safemt_client.providers.errors import InputError
from safemt_client.providers.resources import calls_at_once, in_one_line, raise_open_files
from safemt_client.results.sanitize import shown_path
from safemt_client.results.store.handing import hand_over
from safemt_client.viewer.access import Access
from safemt_client.viewer.desk import Desk
from safemt_client.viewer.forms import Forms
from safemt_client.viewer.queries import Queries
from safemt_client.viewer.server import CHECKED, Pages
from safemt_client.viewer.snapshot import Snapshot

__all__ = ["Viewer", "open_viewer", "view"]

_PORT = 8377
_FILES_A_PAGE = 4
_READY_S = 5.0
"""How long the address is kept back until the results of a large store are there."""
_BACKLOG = 128
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class _Server(uvicorn.Server):
    """Stops what pages are asking before it waits for the pages."""

    def __init__(self, config: uvicorn.Config, queries: Queries) -> None:
        super().__init__(config)
        self._queries = queries

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await asyncio.to_thread(self._queries.stop)
        await super().shutdown(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        in_one_line(asyncio.get_running_loop())
        await super().startup(sockets)


@dataclass(slots=True)
class Viewer:
    """A viewer that is bound to its address. `run` serves until it is stopped."""

    base: str
    token: str
    queries: Queries
    _desk: Desk
    _server: uvicorn.Server
    _socket: socket.socket
    _ready: threading.Thread

    @property
    def address(self) -> str:
        """The address to open; it contains the token."""
        return f"{self.base}/?token={self.token}"

    def run(self) -> None:
        """Serve until `stop` or Ctrl-C."""
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self.close()

    def wait_until_ready(self, seconds: float) -> None:
        """Have ready what the first page of a large store takes longest for, or go on with it meanwhile."""
        with suppress(RuntimeError):  # no thread can be started: the page takes its time then
            self._ready.start()
            self._ready.join(seconds)

    def close(self) -> None:
        """Leave the address and the store."""
        self._socket.close()
        self.queries.stop()
        if self._ready.ident is not None:
            self._ready.join()
        self._desk.close()
        self.queries.close()

    def stop(self) -> None:
        """End `run` from another thread."""
        self._server.should_exit = True


def open_viewer(path: Path, *, port: int | None = None, host: str = "127.0.0.1") -> Viewer:
    """Read the store and bind the address; without a port, use the default one or else a free one.

    Raises:
        InputError: the store cannot be read, or the address is taken.
    """
    raise_open_files()
    most = calls_at_once(_FILES_A_PAGE)
    # What an earlier viewer could not hand over any more; if it still cannot be, it goes on waiting.
    hand_over(path)
    snapshot = Snapshot(path)
    snapshot.refresh(wait=True)
    bound = _bind(host, port)
    number = int(bound.getsockname()[1])
    token = secrets.token_urlsafe(32)
    queries = Queries(snapshot)
    desk = Desk(snapshot)
    pages = Pages(queries, desk)
    application = Access(Forms(pages.application()), token, number, host, CHECKED)
    config = uvicorn.Config(
        application,
        # The parser that is strict about where a request ends, whatever else is installed.
        http="h11",
        log_level="warning",
        access_log=False,
        lifespan="off",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
        # asyncio tries so often, too, to take a client where there is no file for it.
        backlog=_BACKLOG,
        # Beyond that a browser is told to come again, rather than that nobody can open a file.
        limit_concurrency=None if most is None else max(most, 8),
    )
    shown = "127.0.0.1" if host in ("0.0.0.0", "127.0.0.1") else f"[{host}]" if ":" in host else host
    server = _Server(config, queries)
    ready = threading.Thread(target=pages.have_ready, name="safemt-ready", daemon=True)
    return Viewer(f"http://{shown}:{number}", token, queries, desk, server, bound, ready)


def view(path: Path, *, port: int | None, host: str, allow_remote: bool, browser: bool) -> int:
    """Open the viewer and serve until Ctrl-C."""
    if host not in _LOOPBACK and not allow_remote:
        raise InputError(
            f"--host {host}: other machines could read the replies: add --allow-remote to allow that, "
            "or forward the port over ssh"
        )
    viewer = open_viewer(path, port=port, host=host)
    try:
        viewer.wait_until_ready(_READY_S)
    except KeyboardInterrupt:
        viewer.close()
        raise
    print(f"viewer of {shown_path(path)}: {viewer.address}", flush=True)
    if host not in _LOOPBACK:
        print(
            f"careful: anyone who can reach {host} and knows this address can read the store; "
            "the connection is not encrypted",
            file=sys.stderr,
        )
    if browser and _has_display():
        webbrowser.open(viewer.address)
    with suppress(KeyboardInterrupt):
        viewer.run()
    print("viewer closed")
    return 0


def _has_display() -> bool:
    return sys.platform in ("darwin", "win32") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )


def _bind(host: str, port: int | None) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for number in (_PORT, 0) if port is None else (port,):
        bound = socket.socket(family)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((host, number))
            bound.listen(_BACKLOG)
        except (OSError, OverflowError) as error:
            bound.close()
            if number != _PORT or port is not None:
                raise InputError(f"--port {number}: cannot listen on {host}: {error}") from None
        else:
            return bound
    raise AssertionError("either a port was bound or an error was raised")
