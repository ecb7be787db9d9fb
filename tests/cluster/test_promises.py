"""What a run on workers promises, on two nodes of Ray in processes."""

import asyncio
import os
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cluster.said import rows, turns, write_dialogues
from cluster.strict import strict
from support.program import at_once

from safemt_client.cluster.nodes import started
from safemt_client.results.store.deliveries import Delivery, pack
from safemt_client.results.store.rows import EventRow
from safemt_client.results.store.store import Store
from safemt_client.settings import RunSettings


def test_what_is_acknowledged_is_committed_and_what_comes_twice_is_stored_once(
    here: Path, two_nodes: Any
) -> None:
    db = here / "a.duckdb"
    Store.open(db).close()

    def delivery(number: int) -> Delivery:
        row = EventRow("run", "session", datetime.now(UTC), f"event {number}", "{}")
        return Delivery("session", "worker", number, pack([row]))

    async def kill_after_the_acknowledgement() -> None:
        from safemt_client.cluster.actors import Peer, Writer

        writer = Peer(nodes.beside(Writer, "writer", str(db)), lasting=True)
        pid = await writer.insist("ready", within_s=120.0)
        assert await asyncio.gather(*(writer.call("deliver", delivery(n), within_s=60.0) for n in range(20)))
        os.kill(pid, signal.SIGKILL)
        # The next one has the file; what was there comes again, out of order and with something new.
        again = [await writer.insist("deliver", delivery(n), within_s=60.0) for n in (19, 3, 20, 0, 20)]
        assert again == [False, False, True, False, False]
        assert (await writer.insist("ready", within_s=120.0)) != pid
        await writer.insist("close", within_s=60.0)
        nodes.kill(writer.handle)

    with started(RunSettings(provider=["demo"], ray=two_nodes.address, ray_insecure=True)) as nodes:
        asyncio.run(kill_after_the_acknowledgement())
    found = rows(db, "SELECT event, count(*) FROM run_events GROUP BY event")
    assert dict(found) == {f"event {n}": 1 for n in range(21)}


# How much of it is used is for a machine that does nothing else; of shares that do not move, half would be lost.
@pytest.mark.parametrize("used", [0.75, pytest.param(0.97, marks=pytest.mark.slow)])
def test_a_limit_holds_over_all_workers(used: float, here: Path, two_nodes: Any) -> None:
    write_dialogues(here / "d.jsonl", 300)
    with strict(rpm=1200) as endpoint:
        done = at_once(
            *("--provider", f"m@{endpoint.url}", "--judge", "none", "--data", "d.jsonl", "--history", "live"),
            *("--rpm", "1200", "--ray", two_nodes.address, "--ray-insecure", "--workers", "2"),
            *("--db", "a.duckdb"),
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert endpoint.refused == 0
    assert endpoint.used >= used
    assert turns(here / "a.duckdb") == (300, 300, 300)
