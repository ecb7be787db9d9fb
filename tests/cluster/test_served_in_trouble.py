"""What goes wrong between a run and the servers that its cluster keeps: on a machine, and on the way there."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

from cluster.test_served_elsewhere import RUN, refused
from cluster.threads import on_threads
from ray.exceptions import ActorDiedError, ActorUnavailableError, ObjectLostError
from support.program import at_once
from support.serving import as_vllm, nothing_is_left

from safemt_client.cluster import actors, servers
from safemt_client.cluster.actors import Peer, RemoteServer
from safemt_client.providers.errors import InputError
from safemt_client.providers.transport import make_transport
from safemt_client.serving import elsewhere, memory
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


def test_an_actor_that_was_placed_nowhere_is_ended_unasked(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "_WAITS_S", 0.0)
    handle = Handle(*[ActorUnavailableError("not placed", b"0" * 16)] * 9)
    killed: list[Any] = []

    class Nodes:
        gpus = (1, 1)

        def with_gpus(self, actor: type, name: str, gpus: int) -> Any:
            return handle

        def kill(self, handle: Any) -> None:
            killed.append(handle)

    async def keep() -> None:
        async with servers.Servers(Nodes()).keep(order_of(here), print, print):  # type: ignore[arg-type]
            pass

    with pytest.raises(InputError, match="Ray had no machine for it within 0 s"):
        asyncio.run(keep())
    assert set(handle.calls) == {"hello"}
    assert killed == [handle]


@pytest.mark.parametrize(("gpus", "sees"), [(0, ()), (1, ("1",)), (None, ("1",))])
def test_a_server_without_gpus_sees_none(
    gpus: int | None, sees: tuple[str, ...], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    for module in (elsewhere, memory, "safemt_client.serving.engines"):
        name = module if isinstance(module, str) else module.__name__
        monkeypatch.setattr(f"{name}.cards", lambda: (("0", 8 << 30, 8 << 30), ("1", 8 << 30, 8 << 30)))
    assert elsewhere.served_here(order_of(here, gpus=gpus)).spec.gpus == sees


def test_a_log_says_whose_it_is_where_machines_share_a_folder(here: Path) -> None:
    model, *options = as_vllm(here)
    words = ["--provider", model, "--provider", f"again={model}", *options]
    (here / "settings.toml").write_text(
        f'[providers.again]\nserve-option = ["max-num-seqs=8"]\n[providers."{model}"]\n'
    )
    with on_threads(1):
        done = at_once("--config", "settings.toml", *words, *RUN, "--ray", "auto", "--db", "a.duckdb")
    assert done.returncode == 0, done.stdout + done.stderr
    logs = sorted(path.name for path in here.glob("a.duckdb.*vllm*.log"))
    assert [log.partition(".vllm-")[0] for log in logs] == ["a.duckdb.served-1", "a.duckdb.served-2"]
    nothing_is_left(here)


def _no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


@pytest.mark.parametrize("lacks", ["folder", "home", "right"])
def test_a_machine_that_refuses_a_file_says_so_in_one_line(
    lacks: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, *options = as_vllm(here)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    (here / "file").touch()

    def refuse(order: elsewhere.Order) -> None:
        raise PermissionError(13, "Permission denied", str(order.path))

    db_here: Callable[[Path], Path] = elsewhere.db_here
    monkeypatch.setattr("safemt_client.cluster.served.db_here", lambda db: db_here(here / "none" / db.name))
    if lacks == "folder":
        monkeypatch.setenv("XDG_CACHE_HOME", str(here / "file"))
    elif lacks == "home":
        monkeypatch.setattr("safemt_client.serving.elsewhere.Path.home", _no_home)
    else:
        monkeypatch.setattr("safemt_client.cluster.served.served_here", refuse)
    line = refused(["--provider", model, *options])
    assert ", which is to serve " in line
    assert {"folder": "Not a directory", "home": "home directory", "right": "Permission denied"}[
        lacks
    ] in line
    nothing_is_left(here)
