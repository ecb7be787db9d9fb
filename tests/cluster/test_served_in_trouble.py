"""What goes wrong between a run and the servers that its cluster keeps: on a machine, and on the way there."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

from ray.exceptions import ActorDiedError, ActorUnavailableError, ObjectLostError
from support.serving import as_vllm

from safemt_client.cluster import actors
from safemt_client.cluster.actors import Peer, RemoteServer
from safemt_client.providers.transport import make_transport
from safemt_client.serving import elsewhere
from safemt_client.serving.forwarded import Answered, Asked, answer
from safemt_client.serving.names import Serving

ASKED = Asked("GET", "http://served-1.localhost/v1/models", (), b"")


class Handle:
    """An actor of which each method does what the next of these says."""

    def __init__(self, *does: Any) -> None:
        self.does, self.calls = list(does), list[str]()

    def __getattr__(self, name: str) -> Any:
        async def remote(*about: Any) -> Any:
            self.calls.append(name)
            done = self.does.pop(0)
            if isinstance(done, Exception):
                raise done
            return done

        return type("Method", (), {"remote": staticmethod(remote)})


def order_of(here: Path, **changed: Any) -> elsewhere.Order:
    """What a machine is told of a model that a stand-in for vLLM serves."""
    model, _, python = as_vllm(here)
    served, source, said = elsewhere.described(model, Serving(python=python, elsewhere=True))
    given: dict[str, Any] = {
        "name": model,
        "host": "served-1.localhost",
        "source": source,
        "path": here / "small",
        "said": said,
        "gpus": 0,
        "identity": served.identity,
        "called": served.called,
        "version": served.version,
        "db": here / "a.duckdb",
    }
    return elsewhere.Order(**given | changed)


def test_malformed_http_is_no_answer_this_time() -> None:
    async def asked() -> Answered:
        async def said(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n")
            writer.close()

        transport = make_transport()
        async with await asyncio.start_server(said, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/models"
            try:
                return await answer(transport, Asked("GET", url, (), b""))
            finally:
                await transport.aclose()

    assert asyncio.run(asked()).failed


@pytest.mark.parametrize(
    ("done", "failed"),
    [
        (ObjectLostError("0", "0", "0"), True),
        (ActorUnavailableError("away", b"0" * 16), True),
        (ActorDiedError(), False),
    ],
)
def test_an_answer_that_ray_loses_is_asked_for_again(
    done: Exception, failed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = Handle(done, done)
    monkeypatch.setattr(actors.ray, "get_actor", lambda name: handle)
    remote = RemoteServer("vllm:m", "safemt-server-1")
    answered = asyncio.run(remote.ask(ASKED))
    assert (answered.failed is not None, answered.ended is not None) == (failed, not failed)
    assert asyncio.run(remote.use()) is None


def test_a_name_that_there_is_no_more_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def get_actor(name: str) -> Any:
        raise ValueError(name)

    monkeypatch.setattr(actors.ray, "get_actor", get_actor)
    remote = RemoteServer("vllm:m", "safemt-server-1")
    assert asyncio.run(remote.ask(ASKED)).ended is not None
    assert asyncio.run(remote.use()) is None


def test_what_may_take_hours_is_asked_again_for_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actors, "_PATIENCE_S", 0.0)
    monkeypatch.setattr(actors, "_AGAIN_S", 0.0)
    peer = Peer(Handle(*[ActorUnavailableError("away", b"0" * 16)] * 3, "ready"), lasting=False)
    assert asyncio.run(peer.insist("begin", within_s=3600.0)) == "ready"
