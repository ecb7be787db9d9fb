"""A server of a model, kept by a process on the machine that has the GPU: it starts, asks and ends it."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from safemt_client.cluster.versions import versions
from safemt_client.providers.errors import InputError
from safemt_client.providers.transport import make_transport
from safemt_client.serving.elsewhere import Order, db_here, served_here
from safemt_client.serving.forwarded import Answered, Asked, answer
from safemt_client.serving.metrics import Use
from safemt_client.serving.rerouted import Rerouted
from safemt_client.serving.server import Server as Started
from safemt_client.serving.server import ServerSpec, serve, sweep

__all__ = ["Server"]

_LISTENS_S = 2.0
_KEPT = 100


class Server:
    """Keeps one server, which listens on the loopback address of its machine with a key that stays there.

    Its methods are called from one event loop. However its process ends, the server ends with it.
    """

    def __init__(self) -> None:
        self._server: Started | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[None] | None = None
        self._over, self._told = asyncio.Event(), asyncio.Event()
        self._number, self._lines = 0, list[str]()
        self._progress = ""

    async def hello(self) -> dict[str, str]:
        """What must be the same on all machines, the name of this one and the id of this process."""
        return versions() | {"node": platform.node(), "pid": str(os.getpid())}

    async def begin(self, order: Order) -> None:
        """Return once the server is ready.

        Raises:
            InputError: it cannot be started here; nothing is left running.
        """
        if self._keeping is None or self._ready is None:
            self._ready = asyncio.get_running_loop().create_future()
            # One task, from the start to the end: what is opened in a task has to be closed in it.
            self._keeping = asyncio.ensure_future(self._keep(order, self._ready))
        await asyncio.shield(self._ready)

    async def said(self, number: int) -> tuple[int, list[str], str]:
        """What has happened to the server since this `number`, the next one, and how its start goes on.

        Waits a moment where there is nothing new.
        """
        if number == self._number:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._told.wait(), _LISTENS_S)
        missed = min(self._number - number, len(self._lines))
        return self._number, self._lines[len(self._lines) - missed :], self._progress

    async def ask(self, asked: Asked) -> Answered:
        """What the server answers; while it is started once more that is waited for."""
        return await answer(self._way, asked)

    async def use(self, last: bool) -> Use | None:
        """See `serving.server.Server.use`."""
        return None if self._server is None else await self._server.use(last=last)

    async def stop(self) -> None:
        """End the server, also while it starts."""
        self._over.set()
        if self._keeping is not None:
            if self._ready is not None and not self._ready.done():
                self._keeping.cancel()
            await asyncio.wait([self._keeping])

    async def _keep(self, order: Order, ready: asyncio.Future[None]) -> None:
        # Ray's, for processes that share a machine: an engine on the processor would use one core.
        if os.environ.get("OMP_NUM_THREADS") == "1":
            del os.environ["OMP_NUM_THREADS"]
        transport = make_transport()
        try:
            # The hash of the weights may take minutes.
            served = await asyncio.to_thread(served_here, order)
            db = await asyncio.to_thread(db_here, order.db)
            for name in await asyncio.to_thread(sweep, db):
                self._tell(f"{name}: its server was left by an earlier run, and was ended")
            # Actors whose machines share a file system have logs of their own, also of the same weights.
            mine = db.with_name(f"{db.name}.{order.host.partition('.')[0]}")
            async with self._serve(served.spec, mine) as self._server:
                self._way = Rerouted({order.host: self._server}, transport)
                ready.set_result(None)
                await self._over.wait()
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(_in_one_line(order, error) if isinstance(error, OSError) else error)
        finally:
            await transport.aclose()

    @asynccontextmanager
    async def _serve(self, spec: ServerSpec, db: Path) -> AsyncIterator[Started]:
        try:
            async with serve(spec, db, self._tell, self._note) as server:
                yield server
        except InputError as error:
            # It ends with the name of the log.
            raise InputError(f"{error}, on {platform.node()}") from None

    def _tell(self, line: str) -> None:
        self._number += 1
        self._lines = [*self._lines, line][-_KEPT:]
        self._told.set()
        self._told = asyncio.Event()

    def _note(self, line: str) -> None:
        self._progress = line


def _in_one_line(order: Order, error: OSError) -> InputError:
    """What this machine refuses: a file that it may not read, a folder that it may not write."""
    return InputError(f"{order.name}: on {platform.node()}, which is to serve it: {error}")
