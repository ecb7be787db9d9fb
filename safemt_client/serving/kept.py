"""A server under its watchdog, as the program sees it: begun, ended, and stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import anyio
import anyio.to_thread
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from safemt_client.providers.errors import InputError
from safemt_client.providers.own_files import open_own
from safemt_client.serving import keeper
from safemt_client.serving.sweep import end_left, read_record

__all__ = ["Kept"]

_LONGEST_LINE = 1 << 16
_LATE_S = 5.0


class Kept:
    """One start of a server. `pid` is the server's own number, `status` its exit status once it is `over`.

    A status below 0 is the signal that ended it; None while it runs, and where the watchdog was killed.
    """

    def __init__(self, process: Process, order: keeper.Order) -> None:
        assert process.stdout is not None
        self._process, self._order = process, order
        self._said = BufferedByteReceiveStream(process.stdout)
        self.pid = 0
        self.status: int | None = None
        self.over = False

    @classmethod
    async def begin(cls, order: keeper.Order, environment: Mapping[str, str], log: Path) -> Self:
        """Start a server; what it prints is added to the log.

        Raises:
            InputError: the log cannot be written, or the command cannot be run.
        """
        try:
            descriptor = open_own(log)
        except OSError as error:
            raise InputError(f"{log}: {error.strerror}: the server's log is written there") from None
        try:
            process = await anyio.open_process(
                [sys.executable, "-I", "-S", keeper.__file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=descriptor,
                env=environment,
                start_new_session=True,
            )
        finally:
            os.close(descriptor)
        assert process.stdin is not None
        kept = cls(process, order)
        try:
            await process.stdin.send(json.dumps(order).encode() + b"\n")
            told = await kept._told()
        except BaseException:
            await kept.stop()
            raise
        if "pid" not in told:
            await kept.stop()
            why = told.get("cannot", "its watchdog has ended")
            raise InputError(f"{order['title']}: {order['command'][0]} cannot be run: {why}")
        kept.pid = told["pid"]
        return kept

    async def _told(self) -> dict[str, Any]:
        """The next that the watchdog tells; nothing once it has ended."""
        try:
            found: dict[str, Any] = json.loads(await self._said.receive_until(b"\n", _LONGEST_LINE))
        except (
            anyio.EndOfStream,
            anyio.IncompleteRead,
            anyio.ClosedResourceError,
            anyio.BrokenResourceError,
        ):
            return {}
        return found

    async def ended(self) -> None:
        """Wait until the server has ended, whoever ended it; `stop` ends what its watchdog could not."""
        if not self.over:
            self.status = (await self._told()).get("status")
            self.over = True

    async def stop(self) -> None:
        """End the server and all its processes; this is not interrupted."""
        with anyio.CancelScope(shield=True):
            assert self._process.stdin is not None
            with anyio.move_on_after(self._order["grace_s"] + _LATE_S) as late:
                await self._process.stdin.aclose()
                await self._process.wait()
            if late.cancelled_caught:
                self._process.kill()
                await self._process.wait()
            await self._end_left()
            await self._said.aclose()

    async def _end_left(self) -> None:
        await anyio.to_thread.run_sync(_end_left, self._order)


def _end_left(order: keeper.Order) -> None:
    """End what is left where the watchdog was killed: its record is still there."""
    path = Path(order["record"])
    if (record := read_record(path)) is not None and record["mark"] == order["mark"]:
        end_left(record, order["grace_s"])
        path.unlink(missing_ok=True)
