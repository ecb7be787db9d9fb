"""The store of a run, in a process of its own on the machine that has the file."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from safemt_client.providers.errors import InputError
from safemt_client.results.store.deliveries import Delivery
from safemt_client.results.store.store import Store

__all__ = ["Writer"]

_PAUSE_S, _PATIENCE_S = 0.5, 120.0
_ASKED = (
    *("query", "known_keys", "observed", "texts", "reply_hashes", "judged_as", "replies", "final"),
    *("learnt", "final_verdicts", "open_batches", "stopped_targets", "endpoint_facts", "paid_by"),
)


class Writer:
    """Takes deliveries in and answers questions. Its methods are called from one event loop.

    After a restart it may have to wait until its predecessor lets go of the file.
    """

    def __init__(self, db: str) -> None:
        self._path = Path(db)
        self._store: Store | None = None
        self._waits_for: str | None = None
        self._wrong: InputError | None = None
        self._opening: asyncio.Task[None] | None = None

    async def ready(self) -> int:
        """Return once the store is open: the id of this process."""
        await self._opened()
        return os.getpid()

    async def deliver(self, delivery: Delivery) -> bool:
        """Take a delivery in; return once it is committed: whether it was new.

        Raises:
            StoreError: the store cannot be written.
        """
        store = await self._opened()
        return await store.deliver(delivery)

    async def ask(self, name: str, *about: Any) -> Any:
        """What a look-up of the store says, by its name."""
        if name not in _ASKED:
            raise ValueError(f"{name} is not asked from outside")
        store = await self._opened()
        return await asyncio.to_thread(getattr(store, name), *about)

    async def status(self) -> tuple[int, str | None, bool]:
        """The id of this process, what it waits for, and whether the file was moved or overwritten."""
        return os.getpid(), self._waits_for, self._store is not None and self._store.moved

    async def close(self) -> None:
        """Commit what is queued and let go of the file.

        Raises:
            StoreError: that failed.
        """
        if self._opening is not None:
            with suppress(InputError):
                store = await self._opened()
                await asyncio.to_thread(store.close)

    async def _opened(self) -> Store:
        if self._store is None:
            if self._opening is None:
                self._opening = asyncio.ensure_future(self._open())
            await self._opening
        if self._store is None:
            raise self._wrong or InputError(f"{self._path}: is not open")
        return self._store

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + _PATIENCE_S
        while True:
            try:
                self._store = await asyncio.to_thread(Store.open, self._path, "store")
            except InputError as error:
                if loop.time() > until:
                    self._wrong = error
                    return
                self._waits_for = str(error)
                await asyncio.sleep(_PAUSE_S)
            else:
                self._waits_for = None
                return
