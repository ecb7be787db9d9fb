"""Actors that cannot be started: told in one line, not waited for."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray")

from ray.exceptions import ActorDiedError, RayTaskError

from safemt_client.cluster.actors import DiedError, Peer
from safemt_client.cluster.link import AwayError
from safemt_client.providers.errors import InputError

LACKING = "Traceback:\n  File x\nModuleNotFoundError: No module named 'safemt_client'\nsee above\n"


def peer_of(error: Exception, *, lasting: bool = False) -> Peer:
    async def answer(*about: object) -> None:
        raise error

    return Peer(SimpleNamespace(ready=SimpleNamespace(remote=answer)), lasting=lasting)


@pytest.mark.parametrize("lasting", [True, False])
def test_one_whose_machine_lacks_the_program_is_not_waited_for(lasting: bool) -> None:
    cause: Any = RayTaskError("Writer.__init__", LACKING, ModuleNotFoundError("safemt_client"))
    cause._actor_id = "ab"
    peer = peer_of(ActorDiedError(cause), lasting=lasting)
    said = r"\(ModuleNotFoundError: No module named 'safemt_client'\): is this program, in the same version"
    with pytest.raises(InputError, match=said):
        asyncio.run(asyncio.wait_for(peer.insist("ready"), 60.0))


def test_one_that_has_died_otherwise_may_come_back() -> None:
    with pytest.raises(AwayError):
        asyncio.run(peer_of(ActorDiedError(), lasting=True).call("ready"))
    with pytest.raises(DiedError):
        asyncio.run(peer_of(ActorDiedError()).call("ready"))
