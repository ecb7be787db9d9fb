"""A server of a model on this machine, for as long as something asks it."""

from __future__ import annotations

import math
import os
import re
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import anyio
import httpx

from safemt_client.providers.errors import InputError, SafemtError
from safemt_client.providers.transport import make_transport
from safemt_client.providers.vendors import VENDORS
from safemt_client.serving.keeper import GRACE_S, Order
from safemt_client.serving.kept import Kept
from safemt_client.serving.last_lines import ended_with, last_line, last_words
from safemt_client.serving.metrics import Metrics, Use
from safemt_client.serving.ready import Answer, ask, metrics_of
from safemt_client.serving.secret import SECRET, server_key
from safemt_client.serving.sweep import ENDING, sweep

__all__ = ["Server", "ServerDiedError", "ServerSpec", "serve", "sweep"]

Tell = Callable[[str], None]

_HOST = "127.0.0.1"
_PORTS = 3
"""How many free ports are tried: another program may take one in between."""
_PAUSES_S = (0.05, 1.0)
_ANSWER_S = 10.0
"""How long an answer may take: one that loads may accept connections and say nothing."""
_FOREIGN_S = 5.0
"""How long something else may answer at the port: meanwhile a server that cannot have it ends by itself."""
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
_SHORTEST_SECRET = 8


class ServerDiedError(SafemtError):
    """A server has ended for the second time, or could not be started again. The message is one line."""


@dataclass(frozen=True)
class ServerSpec:
    """How a server is started, and how it is known to be ready. Equal ones are one server."""

    name: str
    """As the user wrote it, such as `llama.cpp:model.gguf`: for messages."""
    model: str | None
    """The name under which `GET /v1/models` must list the model; None where it lists others."""
    command: tuple[str, ...]
    """Program and arguments; `{port}` in any of them is replaced by the port."""
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)
    """What is added to the program's environment."""
    unset: frozenset[str] = frozenset()
    """Variables that are removed from it first; `NAME*` removes all that begin so."""
    key_variable: str | None = None
    """The variable that tells the server its key; None if it cannot check one."""
    start_s: float = 600
    """Seconds that a start may take, with loading, compiling and downloading."""
    advice: tuple[tuple[str, str], ...] = ()
    """Pairs of a regular expression and what to change where it is found in the log of a failed start."""
    gpus: tuple[str, ...] | None = None
    """The cards that it sees (`CUDA_VISIBLE_DEVICES`); None for those of the program."""


class _PortTakenError(Exception):
    """Another program listens at the port that was free a moment ago."""


class Server:
    """A server that is running, is started again, or is dead. Its key stays the same, its port does not."""

    def __init__(self, spec: ServerSpec, db: Path, tell: Tell, progress: Tell) -> None:
        self.spec = spec
        self.key = None if spec.key_variable is None else server_key(spec.name)
        self.state: Literal["starting", "running", "restarting", "dead"] = "starting"
        self.error: str | None = None
        """Why it is dead, in one line."""
        self.requests = 0
        """How many were sent to it; whoever sends them counts."""
        self.on_change: list[Callable[[], None]] = []
        """Called after each change of its state."""
        self._used_from = math.inf
        self._used = 0
        self._measured: Metrics | None = None
        """What it said of itself the last time that `use` was asked since its start."""
        self.log, self._record = _files(spec.name, db)
        self._tell, self._progress = tell, progress
        self._changed = anyio.Event()
        self._port = 0
        self._kept: Kept | None = None

    @property
    def base_url(self) -> str:
        """Where it is asked at present; another port after a restart."""
        return f"http://{_HOST}:{self._port}/v1"

    @property
    def pid(self) -> int:
        """The number of its process at present."""
        return 0 if self._kept is None else self._kept.pid

    async def wait_ready(self) -> None:
        """Return at once while it runs; wait while it is started again.

        Raises:
            ServerDiedError: it will not answer any more.
        """
        while self.state in ("starting", "restarting"):
            await self._changed.wait()
        if self.state == "dead":
            raise ServerDiedError(self.error or "")

    async def use(self, *, last: bool = True) -> Use | None:
        """What it did since this was asked before. None if it cannot say now, unless this is the `last` time.

        What it said of itself is lost with a server that dies, but for what was read before.
        """
        found, transport = None, make_transport()
        try:
            if self.state == "running":
                with anyio.move_on_after(_ANSWER_S):
                    found = await metrics_of(transport, self.base_url, self.key)
        finally:
            await transport.aclose()
        if found is None and self._measured is not None and not last:
            return None
        now, requests = anyio.current_time(), self.requests
        use = Use(
            self.spec.name,
            requests - self._used,
            max(0.0, now - self._used_from),
            None if found is None else found.since(self._measured),
        )
        self._used_from, self._used, self._measured = max(now, self._used_from), requests, found
        return use

    async def start(self) -> None:
        """Start it and wait until it is ready.

        Raises:
            InputError: it cannot be run, ended, or was not ready in time; nothing is left running.
        """
        if not hasattr(os, "killpg"):
            raise InputError(f"{self.spec.name}: servers are started on Linux and macOS only: use WSL")
        self._tell(f"{self.spec.name}: starting")
        began = anyio.current_time()
        for port_left in reversed(range(_PORTS)):
            self._port = free_port()
            self._kept = kept = await Kept.begin(self._order(), self._environment(), self.log)
            try:
                await self._until_ready(kept)
            except _PortTakenError:
                await kept.stop()
                if not port_left:
                    raise InputError(f"{self.spec.name}: other programs take every free port") from None
            except BaseException:
                await kept.stop()
                raise
            else:
                self._used_from, self._measured = min(self._used_from, anyio.current_time()), None
                self._change("running")
                self._tell(f"{self.spec.name}: ready after {anyio.current_time() - began:.0f} s")
                return

    async def watch(self) -> None:
        """See to it that it is started once more when it ends, and is dead when it ends again."""
        for again in (True, False):
            assert self._kept is not None
            await self._kept.ended()
            if again:
                self._change("restarting")
            await self._kept.stop()
            how = f"{self.spec.name}: the server ended ({ended_with(self._kept.status)})"
            if not again:
                self.error = f"{how} a second time; {self._said()}"
                break
            self._tell(f"{how}; it is started once more: {self._said()}")
            try:
                await self.start()
            except InputError as error:
                self.error = f"{how} and could not be started again: {error}"
                break
        self._change("dead")
        self._tell(self.error or "")

    async def stop(self) -> None:
        """End it, if it runs."""
        if self._kept is not None:
            await self._kept.stop()

    def _change(self, state: Literal["running", "restarting", "dead"]) -> None:
        self.state = state
        self._changed.set()
        self._changed = anyio.Event()
        for changed in self.on_change:
            changed()

    def _order(self) -> Order:
        values = [value for name, value in os.environ.items() if _SECRET.search(name)]
        return Order(
            command=[word.replace("{port}", str(self._port)) for word in self.spec.command],
            record=str(self._record),
            secrets=[value for value in (self.key or "", *values) if len(value) >= _SHORTEST_SECRET],
            title=self.spec.name,
            mark=secrets.token_hex(16),
            grace_s=GRACE_S,
        )

    def _environment(self) -> dict[str, str]:
        """The program's, without the keys of vendors, but with that for the download of weights."""
        spec = self.spec
        vendors = (vendor for vendor in VENDORS if vendor.name != "huggingface")
        keys = {name for vendor in vendors for name in (*vendor.keys, *vendor.further_keys)}
        exact = spec.unset | keys | {SECRET}
        prefixes = tuple(name[:-1] for name in spec.unset if name.endswith("*"))
        found = {
            name: value
            for name, value in os.environ.items()
            if name not in exact and not (prefixes and name.startswith(prefixes))
        }
        found |= spec.environment
        if spec.gpus is not None:
            found["CUDA_VISIBLE_DEVICES"] = ",".join(spec.gpus)
        if spec.key_variable is not None and self.key is not None:
            found[spec.key_variable] = str(self.key)
        return found

    async def _until_ready(self, kept: Kept) -> None:
        began, foreign_since, pause = anyio.current_time(), None, _PAUSES_S[0]
        transport = make_transport()
        try:
            while True:
                with anyio.move_on_after(pause):
                    await kept.ended()
                taken = anyio.current_time() - began
                if kept.over:
                    raise self._ended_early(kept, taken)
                answer = await self._asked(kept, transport)
                if answer is Answer.READY:
                    return
                now = anyio.current_time()
                foreign_since = None if answer is Answer.NOTHING else foreign_since or now
                if foreign_since is not None and now - foreign_since > _FOREIGN_S:
                    raise InputError(
                        f"{self.spec.name}: {answer.value.format(model=self.spec.model)}; {self._said()}"
                    )
                if taken > self.spec.start_s:
                    raise InputError(
                        f"{self.spec.name}: not ready after {self.spec.start_s:g} s; {self._said()}"
                    )
                line = last_line(self.log)
                self._progress(f"{self.spec.name}: starting, {taken:.0f} s" + (f": {line}" if line else ""))
                pause = min(pause * 1.5, _PAUSES_S[1])
        finally:
            await transport.aclose()

    async def _asked(self, kept: Kept, transport: httpx.AsyncBaseTransport) -> Answer:
        """What is at the port; nothing once the server has ended."""
        answer = Answer.NOTHING
        async with anyio.create_task_group() as group:

            async def ended() -> None:
                await kept.ended()
                group.cancel_scope.cancel()

            group.start_soon(ended)
            with anyio.move_on_after(_ANSWER_S):
                answer = await ask(transport, self.base_url, self.spec.model, self.key)
            group.cancel_scope.cancel()
        return answer

    def _ended_early(self, kept: Kept, taken_s: float) -> Exception:
        with socket.socket() as probe:
            if probe.connect_ex((_HOST, self._port)) == 0:
                return _PortTakenError()
        return InputError(
            f"{self.spec.name}: the server ended as it started ({ended_with(kept.status)}, after "
            f"{taken_s:.0f} s); {self._said()}"
        )

    def _said(self) -> str:
        """What to change, the server's last words, and where the rest stands."""
        return last_words(self.log, self.spec.advice)


_LOGS: set[Path] = set()
"""The logs of the servers of this program that run."""


def _files(name: str, db: Path) -> tuple[Path, Path]:
    """The log of a server, which no other one that runs has, and its record."""
    engine, _, source = name.partition(":")
    slug = re.sub(
        r"[^A-Za-z0-9.]+", "-", f"{engine}-{source if len(source) < 60 else Path(source).name[-60:]}"
    )
    slug = slug.strip("-.")
    logs = (db.with_name(f"{db.name}.{slug}{more}.log") for more in ("", *(f"-{n}" for n in range(2, 1000))))
    log = next(log for log in logs if log.absolute() not in _LOGS)
    return log, db.with_name(f"{db.name}.{slug}-{secrets.token_hex(4)}{ENDING}").absolute()


def free_port() -> int:
    """A port at which nothing listens on the loopback address."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
    return port


@asynccontextmanager
async def serve(
    spec: ServerSpec, db: Path, tell: Tell, progress: Tell = lambda text: None
) -> AsyncIterator[Server]:
    """A server that runs meanwhile; its log and its record stand beside the store `db`.

    `tell` gets what happens to it, a sentence each; `progress` its present state, time and again as it
    starts. If it ends by itself it is started once more. Servers that share a card are better started one
    after another: some measure the free memory as they start.

    Raises:
        InputError: it did not start, or was not ready in time; nothing is left running.
    """
    server = Server(spec, db, tell, progress)
    log = server.log.absolute()
    failure: Exception | None = None
    async with anyio.create_task_group() as group:
        try:
            with suppress(OSError):
                log.unlink()
            _LOGS.add(log)
            await server.start()
            group.start_soon(server.watch)
            yield server
        except Exception as error:  # noqa: BLE001 - raised below, as it is and not in a group
            failure = error
        finally:
            group.cancel_scope.cancel()
            await server.stop()
            _LOGS.discard(log)
    if failure is not None:
        raise failure
