"""The models that a run serves on a cluster: an actor keeps each, on a machine that has the GPUs for it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import anyio

from safemt_client.cluster.link import AwayError
from safemt_client.cluster.nodes import Nodes
from safemt_client.cluster.versions import check_alike
from safemt_client.providers.errors import InputError
from safemt_client.serving.elsewhere import Order
from safemt_client.serving.forwarded import Remote

if TYPE_CHECKING:
    from safemt_client.cluster.actors import Peer

__all__ = ["Servers"]

Tell = Callable[[str], None]

_WAITS_S = 600.0
"""How long GPUs that are in use may be waited for."""
_STARTS_S = 4 * 3600.0
_ENDS_S = 30.0
_PAUSE_S = 0.5


class Servers:
    """Starts the servers of a run on a cluster, one after another."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._taken = 0

    @asynccontextmanager
    async def keep(self, order: Order, tell: Tell, progress: Tell) -> AsyncIterator[Remote]:
        """A server that runs meanwhile; see `serve`. It ends with its actor, and the actor with this process.

        Raises:
            InputError: the cluster has no room for it, or it did not start; nothing is left running.
        """
        from safemt_client.cluster.actors import Peer, RemoteServer, Server

        gpus = self._room(order)
        name = f"safemt-server-{uuid.uuid4().hex[:12]}"
        handle = self._nodes.with_gpus(Server, name, gpus)
        peer = Peer(handle, lasting=False)
        node = ""
        failure: Exception | None = None
        async with anyio.create_task_group() as group:
            try:
                node = await _placed(order, peer, gpus, progress)
                tell(f"{order.name}: {node} serves it" + _with(gpus))
                group.start_soon(_relay, order, node, peer, tell, progress)
                await _started(order, node, peer)
                yield RemoteServer(order.name, name)
            except Exception as error:  # noqa: BLE001 - raised below, as it is and not in a group
                failure = error
            finally:
                group.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    # One that was placed nowhere yet would not answer.
                    if node:
                        with suppress(AwayError, _died()):
                            await peer.call("stop", within_s=_ENDS_S)
                    self._nodes.kill(handle)
                self._taken -= gpus
        if failure is not None:
            raise failure

    def _room(self, order: Order) -> int:
        """How many GPUs a server is given.

        Raises:
            InputError: the cluster does not have them.
        """
        most, in_all = self._nodes.gpus
        gpus = min(1, most) if order.gpus is None else order.gpus
        if gpus > most:
            raise InputError(
                f"{order.name}: needs {_many(gpus)} on one machine, and none of the cluster has more than "
                f"{most}: start Ray on one that has them, or change --gpus or the options that divide it"
            )
        if self._taken + gpus > in_all:
            raise InputError(
                f"{order.name}: needs {_many(gpus)} beside the {self._taken} of the other models, and the "
                f"cluster has {in_all}: add machines, or serve fewer models"
            )
        self._taken += gpus
        return gpus


async def _placed(order: Order, peer: Peer, gpus: int, progress: Tell) -> str:
    """The name of the machine that Ray has chosen."""
    began = anyio.current_time()
    try:
        while True:
            try:
                said: dict[str, str] = await peer.call("hello")
            except AwayError:
                waited = anyio.current_time() - began
                progress(f"{order.name}: waits for {_many(gpus) if gpus else 'a machine'}, {waited:.0f} s")
                if waited > _WAITS_S:
                    raise InputError(
                        f"{order.name}: Ray had no {_free(gpus)} for it within "
                        f"{_WAITS_S:g} s: see what uses the cluster (ray status)"
                    ) from None
                await anyio.sleep(_PAUSE_S)
            else:
                check_alike("the process that serves a model", said)
                return said["node"]
    except _died():
        raise InputError(
            f"{order.name}: the process on the cluster that was to serve it has ended: is this program "
            "installed on all machines? Ray's logs there say more"
        ) from None


async def _started(order: Order, node: str, peer: Peer) -> None:
    try:
        await peer.insist("begin", order, within_s=_STARTS_S)
    except _died():
        raise InputError(
            f"{order.name}: the process on {node} that was to serve it has ended: too little memory?"
        ) from None


async def _relay(order: Order, node: str, peer: Peer, tell: Tell, progress: Tell) -> None:
    """Pass on what happens to a server."""
    number, before = 0, ""
    while True:
        try:
            number, lines, now = await peer.call("said", number)
        except AwayError:
            await anyio.sleep(_PAUSE_S)
            continue
        except _died():
            tell(f"{order.name}: the process on {node} that served it is lost")
            return
        for line in lines:
            tell(line)
        if now != before:
            progress(now)
            before = now


def _died() -> type[Exception]:
    from safemt_client.cluster.actors import DiedError

    return DiedError


def _many(gpus: int) -> str:
    return "a GPU" if gpus == 1 else f"{gpus} GPUs"


def _free(gpus: int) -> str:
    return {0: "machine", 1: "GPU"}.get(gpus, f"{gpus} GPUs of one machine")


def _with(gpus: int) -> str:
    return f", with {_many(gpus)}" if gpus else ""
