"""The models of a session that this program serves itself: one server for each, whoever asks it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio.to_thread

from safemt_client.providers.errors import InputError
from safemt_client.providers.registry import ProviderSpec, split_alias
from safemt_client.providers.vendors import SERVED
from safemt_client.serving.names import Serving, engine_of

if TYPE_CHECKING:
    import httpx

    from safemt_client.providers.options import EndpointOptions
    from safemt_client.providers.provider import Provider
    from safemt_client.serving.elsewhere import Order
    from safemt_client.serving.engines import Served
    from safemt_client.serving.forwarded import Remote
    from safemt_client.serving.metrics import Use
    from safemt_client.serving.posted import Handed, PostedServer
    from safemt_client.serving.server import Server, ServerSpec

__all__ = ["LocalServers"]

Tell = Callable[[str], None]
Keep = Callable[["Order", Tell, Tell], "AbstractAsyncContextManager[Remote]"]
"""Starts a server on another machine and ends it; both tell: what happens to it, how its start goes on."""
_PAUSE_S = 15.0
"""Seconds to the first line about a start that takes long; each time it is half as long again."""


class LocalServers:
    """The servers by their made-up hosts, which stand for wherever they are at present.

    So neither a port nor a key is known to whoever asks, and both may change when one is started again.
    """

    def __init__(
        self, handed: Handed | None = None, reach: Callable[[str, str], Remote] | None = None
    ) -> None:
        """`handed` are the servers of another process of the run: they are asked, and none is started.

        `reach` finds those of other machines, by their names and those of the processes that keep them.
        """
        self.served: dict[str, Served] = {}
        self.running: dict[str, Server] = {}
        self.posted: dict[str, PostedServer] = {}
        """Those of another process."""
        self.remote: dict[str, Remote] = {}
        """Those of other machines, where servers are started once there is a `keep`."""
        self.keep: Keep | None = None
        self.ends: AsyncExitStack | None = None
        """What ends those, in place of what ends servers of this machine."""
        self.choices: list[str] = []
        """Sentences on each model whose engine the program chose."""
        self._shown: dict[str, str] = {}
        self._names: dict[str, tuple[str, str]] = {}
        self._said: dict[str, tuple[str, Serving]] = {}
        self._handed = handed is not None
        self._elsewhere = handed is not None and handed.file is None
        if handed is not None:
            from safemt_client.serving.posted import PostedServer

            self.served |= handed.served
            self._names |= handed.names
            if handed.file is not None:
                self.posted = {
                    host: PostedServer(served.spec.name, host, handed.file)
                    for host, served in handed.served.items()
                }
            elif reach is not None:
                self.remote = {
                    host: reach(handed.served[host].spec.name, actor) for host, actor in handed.actors.items()
                }

    def spec(self, called: str, said: Serving, base_url: str | None = None) -> ProviderSpec | None:
        """What a name such as `llama.cpp:FILE.gguf` or `ALIAS=vllm:FOLDER` stands for; None for other names.

        Raises:
            InputError: the engine or the model cannot be used.
        """
        alias, name = split_alias(called)
        if engine_of(name) is None:
            return None
        if base_url is not None:
            raise InputError(f"{name}: this program serves it at an address of its own: leave base-url out")
        if not self._handed:
            self._names[called] = self._named(name, said)
        host, short = self._names[called]
        served = self.served[host]
        return ProviderSpec(
            name=alias or short,
            identity=served.identity + (f"#{alias}" if alias else ""),
            model=served.called,
            account=served.spec.name,
            vendor=SERVED,
            base_url=f"http://{host}/v1",
            aliased=alias is not None,
        )

    def _named(self, name: str, said: Serving) -> tuple[str, str]:
        """The host of a model's server, and what the model is called."""
        from safemt_client.serving.engines import served_of
        from safemt_client.serving.fitting import check_together

        source = name
        if said.elsewhere:
            from safemt_client.serving.elsewhere import described

            served, source, said = described(name, said)
        else:
            served = served_of(name, said)
        host = next((host for host, other in self.served.items() if _same(other, served)), None)
        if host is None:
            if not said.elsewhere:
                check_together([*self.served.values(), served])
            host = f"served-{len(self.served) + 1}.localhost"
            self.served[host], self._said[host] = served, (source, said)
        # A path is no part of what a model is called, unless two differ in nothing else.
        short = f"{served.engine}:{served.weights.name}"
        return host, short if self._shown.setdefault(short, host) == host else name

    @contextmanager
    def handed(self, db: Path) -> Iterator[Handed | None]:
        """What other processes of the run need to ask its servers, meanwhile; None if it has none."""
        if not self.served:
            yield None
            return
        from safemt_client.serving.posted import Handed, post

        if self.keep is not None:
            actors = {host: remote.actor for host, remote in self.remote.items()}
            yield Handed(self.served, self._names, None, actors)
            return
        with post(self.running, db) as file:
            yield Handed(self.served, self._names, file)

    def of(self, spec: ProviderSpec) -> Served | None:
        """The server that a model is asked at; None if it is not one of these."""
        return self.served.get(_host(spec))

    def options(self, spec: ProviderSpec, said: EndpointOptions) -> EndpointOptions:
        """What is said of the requests to a model, with the id of a conversation where its engine takes one.

        A header that the user names for it takes its place.
        """
        served = self.of(spec)
        if served is None or said.session_header is not None:
            return said
        return replace(said, session_header=served.session_header)

    def elsewhere(self, spec: ProviderSpec) -> bool:
        """Whether another machine serves a model of these, so that requests to it go through the cluster."""
        host = _host(spec)
        return self._said[host][1].elsewhere if host in self._said else self._elsewhere

    def at_once(self, spec: ProviderSpec) -> int:
        """How many calls its server is given at the same time."""
        return self.served[_host(spec)].at_once

    @property
    def notes(self) -> list[str]:
        """What was chosen, and a sentence on each server: what is started, and what memory it needs."""
        if not self.served:
            return self.choices
        from safemt_client.serving.elsewhere import line_elsewhere
        from safemt_client.serving.engines import line_of

        lines = []
        for host, served in self.served.items():
            _, said = self._said[host]
            lines.append(line_elsewhere(served, said) if said.elsewhere else line_of(served))
        return [*self.choices, *lines]

    @property
    def started(self) -> bool:
        """Whether any server was started, here or on another machine."""
        return bool(self.running or self.remote)

    def way(self, spec: ProviderSpec, transport: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
        """The transport to a model: the given one, or for a server of this program one that finds it."""
        if not spec.vendor.managed:
            return transport
        from safemt_client.serving.rerouted import Rerouted

        return Rerouted(self.posted or self.running, transport, self.remote)

    async def start(
        self,
        asked: Sequence[ProviderSpec],
        provider: Callable[[ProviderSpec], Provider],
        stack: AsyncExitStack,
        db: Path,
        tell: Tell,
    ) -> None:
        """Start the servers of these models that do not run yet, one after another; `stack` ends them.

        What earlier runs on this store have left running is ended first, whatever is asked.

        Each is asked once, through its `provider`: see `proof`.

        Raises:
            InputError: one of them cannot be started, or does not heed a grammar; `stack` ends the others.
        """
        for name in await _swept(db):
            tell(f"{name}: its server was left by an earlier run, and was ended")
        if not asked:
            return
        from safemt_client.serving.proof import prove
        from safemt_client.serving.server import serve

        for spec in asked:
            host = _host(spec)
            if host in self.running or host in self.remote:
                continue
            if self.keep is not None:
                kept = self.keep(self._order(host, db), tell, _at_times(tell))
                self.remote[host] = await (self.ends or stack).enter_async_context(kept)
            else:
                started = serve(self._shared(self.served[host]), db, tell, _at_times(tell))
                self.running[host] = await stack.enter_async_context(started)
            await prove(provider(spec), self.served[host])

    def sent(self) -> dict[str, int]:
        """How many requests were sent to servers of another process since this was asked before, by host."""
        found = {host: server.requests for host, server in self.posted.items() if server.requests}
        for server in self.posted.values():
            server.requests = 0
        return found

    def count(self, sent: Mapping[str, int]) -> None:
        """Another process has sent so many requests to servers of this one."""
        for host, requests in sent.items():
            self.running[host].requests += requests

    async def use(self, *, last: bool = True) -> list[Use]:
        """What each server that was started did since this was asked before; see `Server.use`."""
        # A path is no part of what a model is called.
        names = {host: f"{served.engine}:{served.weights.name}" for host, served in self.served.items()}
        servers: dict[str, Server | Remote] = {**self.running, **self.remote}
        used = {host: await server.use(last=last) for host, server in servers.items()}
        return [replace(use, server=names[host]) for host, use in used.items() if use is not None]

    def _order(self, host: str, db: Path) -> Order:
        """What another machine is told about a server."""
        from safemt_client.serving.elsewhere import Order, gpus_of

        served, (source, said) = self.served[host], self._said[host]
        path = Path(source.partition(":")[2])
        return Order(
            name=served.spec.name,
            host=host,
            source=source,
            path=path if path.is_absolute() else None,
            said=said,
            gpus=gpus_of(served, said),
            identity=served.identity,
            called=served.called,
            version=served.version,
            db=db.absolute(),
        )

    def _shared(self, served: Served) -> ServerSpec:
        """With its share of the memory of cards that other servers use too, in proportion to the weights."""
        spec, others = served.spec, [other for other in self.served.values() if _meet(other, served)]
        stated = "--gpu-memory-utilization" in spec.command
        if served.engine != "vllm" or not served.on_cards or stated or len(others) < 2:
            return spec
        if any(other.weights.size is None for other in others):
            share = 0.9 / len(others)
        else:
            share = 0.9 * (served.weights.size or 0) / sum(other.weights.size or 0 for other in others)
        return replace(spec, command=(*spec.command, "--gpu-memory-utilization", f"{share:.2f}"))


async def _swept(db: Path) -> list[str]:
    from safemt_client.serving.sweep import records, sweep

    # A thread only for what may block.
    return [] if not records(db) else await anyio.to_thread.run_sync(sweep, db)


def _at_times(tell: Tell) -> Tell:
    """Passes on what it is told at first after a while, and then ever more seldom."""
    last, pause = time.monotonic(), _PAUSE_S

    def told(text: str) -> None:
        nonlocal last, pause
        if time.monotonic() - last > pause:
            last, pause = time.monotonic(), 1.5 * pause
            tell(text)

    return told


def _host(spec: ProviderSpec) -> str:
    return urlsplit(spec.base_url or "").hostname or ""


def _same(one: Served, other: Served) -> bool:
    """Whether two names stand for one server."""
    return replace(one.spec, name="") == replace(other.spec, name="")


def _meet(one: Served, other: Served) -> bool:
    """Whether two servers may use the same card."""
    if not (one.on_cards and other.on_cards):
        return False
    first, second = one.spec.gpus, other.spec.gpus
    return first is None or second is None or bool(set(first) & set(second))
