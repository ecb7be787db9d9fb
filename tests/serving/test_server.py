"""Servers: started, known to be ours, and stopped; what a start that fails says."""

import sys
from pathlib import Path

import pytest
from support import stand_in

from safemt_client.providers.errors import InputError
from safemt_client.serving.keeper import group_lives
from safemt_client.serving.server import ServerSpec, serve

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def spec(*words: str, **changed: object) -> ServerSpec:
    given: dict[str, object] = {
        "name": "stand:in",
        "model": stand_in.MODEL,
        "command": (sys.executable, "-S", stand_in.__file__, "{port}", *words),
        "key_variable": "STAND_IN_KEY",
    }
    return ServerSpec(**given | changed)  # type: ignore[arg-type]


async def test_it_runs_until_the_end_of_the_block(tmp_path: Path) -> None:
    async with serve(spec("tell"), tmp_path / "d.duckdb", print) as server:
        assert server.state == "running"
        await server.wait_ready()
        assert group_lives(server.pid)
        assert server.key is not None
    assert not group_lives(server.pid)
    assert [path.name for path in tmp_path.iterdir()] == ["d.duckdb.stand-in.log"]
    assert "the key is [key]" in server.log.read_text()
    assert server.key not in server.log.read_text()


async def test_a_start_that_fails_says_the_servers_last_lines_and_what_to_change(tmp_path: Path) -> None:
    given = spec("fail", advice=(("cold", "warm it"), ("little memory", "choose a smaller model")))
    with pytest.raises(InputError) as caught:
        async with serve(given, tmp_path / "d.duckdb", print):
            pass
    said = str(caught.value)
    assert said.startswith("stand:in: the server ended as it started (exit status 3")
    assert "; choose a smaller model; it said: RuntimeError: too little memory; its log is " in said
