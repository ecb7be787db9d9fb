"""Whatever is killed, nothing is left: the program, the server, the watchdog, and all of them."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest
from support.forked import Forked, forked
from support.program import at_once
from support.serving import left, of_stand_in, record_of
from support.waiting import until

from safemt_client.serving import server as serving
from safemt_client.serving.keeper import Record, place, start_of
from safemt_client.serving.metrics import Metrics
from safemt_client.serving.server import Server, ServerDiedError, serve
from safemt_client.serving.sweep import sweep

TESTS = Path(__file__).resolve().parents[1]
PROGRAM = """
import sys
from pathlib import Path
import anyio
sys.path.insert(0, {tests!r})
from support.forked import Forked, forked
from support.serving import of_stand_in
from safemt_client.serving import server as serving

serving.GRACE_S = 0.2

async def main():
    async with serving.serve(of_stand_in(*{words!r}), Path("d.duckdb"), print):
        print("runs", flush=True)
        await anyio.sleep_forever()

anyio.run(main)
"""

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform != "linux", reason="needs what Linux alone has"),
]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "GRACE_S", 0.2)


@contextmanager
def program(*words: str) -> Iterator[Forked]:
    """A process that serves the stand-in in the current folder."""
    process = forked(before=PROGRAM.format(tests=str(TESTS), words=words))
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def begun(process: Forked, folder: Path) -> Record:
    """Its record, once it runs."""
    assert "runs\n" in iter(process.stdout.readline, ""), process.communicate()
    return record_of(folder)


def test_the_program_is_killed(here: Path) -> None:
    with program("child=both") as process:
        record = begun(process, here)
        assert len(left(record)) == 4
        process.kill()
    until(lambda: not left(record))
    assert [path.suffix for path in here.iterdir()] == [".log"]


def test_ctrl_c_ends_a_server_that_does_not_listen_to_term(here: Path) -> None:
    with program("stubborn", "child") as process:
        record = begun(process, here)
        process.send_signal(signal.SIGINT)
        process.wait(60)
        assert left(record) == set()


def test_ctrl_c_during_the_start(here: Path) -> None:
    with program("wait=never", "child=apart") as process:
        until(lambda: list(here.glob("*.serving")), process)
        record = record_of(here)
        process.send_signal(signal.SIGINT)
        process.wait(60)
        assert left(record) == set()


async def state(server: Server, wanted: str) -> None:
    """Wait until a server is in that state."""
    with anyio.fail_after(60):
        while server.state != wanted:
            await anyio.sleep(0.005)


async def used(server: Server) -> Metrics | None:
    """What it says that it did since this was asked before."""
    found = await server.use()
    assert found is not None
    return found.metrics


async def test_a_server_that_is_killed_is_started_once_more(tmp_path: Path) -> None:
    told: list[str] = []
    async with serve(of_stand_in("child=both"), tmp_path / "d.duckdb", told.append) as server:
        first, address = record_of(tmp_path), server.base_url
        assert await used(server) == Metrics(40, 10, 0)
        os.kill(server.pid, signal.SIGKILL)
        await state(server, "restarting")
        assert await server.use(last=False) is None
        assert left(first) <= {first["keeper"]}
        await server.wait_ready()
        assert left(first) == set()
        assert server.base_url != address
        # It counts from the beginning again.
        assert await used(server) == Metrics(40, 10, 0)
        second = record_of(tmp_path)
        os.kill(server.pid, signal.SIGKILL)
        await state(server, "dead")
        with pytest.raises(
            ServerDiedError, match=r"stand:in: the server ended \(SIGKILL: .*\) a second time; "
        ):
            await server.wait_ready()
    assert left(second) == set()
    assert "; it is started once more" in "".join(told)
    assert [path.suffix for path in tmp_path.iterdir()] == [".log"]


async def test_a_server_that_cannot_be_started_again(tmp_path: Path) -> None:
    spec = of_stand_in(f"once={tmp_path / 'there'}")
    async with serve(spec, tmp_path / "d.duckdb", print) as server:
        os.kill(server.pid, signal.SIGKILL)
        await state(server, "dead")
        with pytest.raises(ServerDiedError, match=r"could not be started again: .* RuntimeError: too little"):
            await server.wait_ready()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_watchdog_that_is_killed(number: signal.Signals, tmp_path: Path) -> None:
    async with serve(of_stand_in("child=both"), tmp_path / "d.duckdb", print) as server:
        first = record_of(tmp_path)
        os.kill(first["keeper"], number)
        await state(server, "restarting")
        await server.wait_ready()
        assert left(first) == set()
        second = record_of(tmp_path)
    assert left(second) == set()


def test_the_next_run_ends_what_both_have_left(here: Path) -> None:
    with program("child=both") as process:
        record = begun(process, here)
        assert sweep(here / "d.duckdb") == []
        assert len(left(record)) == 4
        process.send_signal(signal.SIGSTOP)
        os.kill(record["keeper"], signal.SIGKILL)
    # The server ends by its parent's death, its children do not.
    until(lambda: left(record) and record["group"] not in left(record))
    assert sweep(here / "other.duckdb") == []
    assert left(record)
    assert sweep(here / "d.duckdb", 0.2) == ["stand:in"]
    assert left(record) == set()
    assert sweep(here / "d.duckdb") == []
    assert [path.suffix for path in here.iterdir()] == [".log"]


def test_a_run_on_the_same_store_ends_what_was_left(here: Path) -> None:
    with another() as process:
        record = {"title": "stand:in", "mark": "no such mark", "place": place(), "group": process.pid}
        record |= {"start": start_of(process.pid), "keeper": process.pid, "keeper_start": "another time"}
        (here / "safemt.duckdb.x-1.serving").write_text(json.dumps(record))
        done = at_once("--provider", "demo", "--judge", "none", "--limit", "1", "--turns", "1")
        assert done.returncode == 0, done.stderr
        assert "stand:in: its server was left by an earlier run, and was ended\n" in done.stdout
        assert process.wait(60) == -signal.SIGTERM


@contextmanager
def another() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is nobody's server."""
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("changed", ["start", "place", "keeper"])
def test_who_is_not_the_recorded_process_is_left_alone(changed: str, tmp_path: Path) -> None:
    with another() as process:
        start = start_of(process.pid)
        assert start is not None
        record = {
            "title": "x",
            "mark": "no such mark",
            "place": place(),
            "group": process.pid,
            "start": start,
        }
        record |= {"keeper": process.pid, "keeper_start": "another time"}
        path = tmp_path / "d.duckdb.x-1.serving"
        as_it_is = (
            record
            | {
                "start": {"start": str(int(start) - 1)},
                "place": {"place": "another machine"},
                # Its watchdog is alive.
                "keeper": {"keeper_start": start},
            }[changed]
        )
        path.write_text(json.dumps(as_it_is))
        assert sweep(tmp_path / "d.duckdb") == []
        assert process.poll() is None
        assert path.exists() == (changed != "start")
        # It would have been found otherwise.
        path.write_text(json.dumps(record))
        assert sweep(tmp_path / "d.duckdb") == ["x"]
        assert process.wait(60) == -signal.SIGTERM
