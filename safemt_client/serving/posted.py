"""Where the servers of a run are at present, for other processes of the same run on this machine.

A file beside the store holds their addresses, which are not known before a server runs and change with a
restart. A process that asks has the name of the file from the run, and the keys from a secret of the run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from safemt_client.providers.keys import Key
from safemt_client.serving.secret import server_key
from safemt_client.serving.server import Server, ServerDiedError

if TYPE_CHECKING:
    from safemt_client.serving.engines import Served

__all__ = ["Handed", "PostedServer", "post", "posted_file"]

_PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class Handed:
    """What another process of a run needs to ask its servers.

    Attributes:
        served: the servers by their made-up hosts.
        names: by what a model is called in the settings, the host of its server and the name that is shown.
        file: where they are at present, see `post`; None if other machines have them.
        actors: of other machines, the names of the processes that keep them, by their made-up hosts.
    """

    served: Mapping[str, Served]
    names: Mapping[str, tuple[str, str]]
    file: Path | None
    actors: Mapping[str, str] = field(default_factory=dict)


def posted_file(db: Path) -> Path:
    """The file of a run on the store at `db`."""
    return db.with_name(db.name + ".servers").absolute()


@contextmanager
def post(running: Mapping[str, Server], db: Path) -> Iterator[Path]:
    """Keep the file up to date meanwhile; the file."""
    file = posted_file(db)

    def write() -> None:
        found = {
            host: {
                "state": server.state,
                "base_url": server.base_url,
                "has_key": server.key is not None,
                "error": server.error,
            }
            for host, server in running.items()
        }
        part = file.with_name(file.name + ".part")
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as content:
            json.dump(found, content)
        part.replace(file)

    def rewrite() -> None:
        # On a full disk the store stops the run.
        with suppress(OSError):
            write()

    write()
    for server in running.values():
        server.on_change.append(rewrite)
    try:
        yield file
    finally:
        for server in running.values():
            server.on_change.remove(rewrite)
        file.unlink(missing_ok=True)


class PostedServer:
    """A server of another process, as the file says at present."""

    def __init__(self, name: str, host: str, file: Path) -> None:
        self._name, self._host, self._file = name, host, file
        self._version: tuple[int, int] | None = None
        self._said: Mapping[str, Any] = {}
        self.requests = 0
        """How many were sent to it from here; whoever sends them counts."""

    @property
    def base_url(self) -> str:
        """Where it was when it was waited for."""
        return str(self._said["base_url"])

    @property
    def key(self) -> Key | None:
        """Its key, if it checks one."""
        return server_key(self._name) if self._said["has_key"] else None

    async def wait_ready(self) -> None:
        """Return at once while it runs; wait while it is started again.

        Raises:
            ServerDiedError: it will not answer any more.
        """
        while True:
            self._read()
            if self._said["state"] == "running":
                return
            if self._said["state"] == "dead":
                raise ServerDiedError(self._said["error"])
            await anyio.sleep(_PAUSE_S)

    def _read(self) -> None:
        try:
            found = os.stat(self._file)
            version = found.st_mtime_ns, found.st_ino
            if version != self._version:
                self._said = json.loads(self._file.read_bytes())[self._host]
                self._version = version
        except (OSError, ValueError, KeyError):
            raise ServerDiedError(f"{self._name}: the run that served it has ended") from None
