"""What workers read of a store that has much already: each row once, and not in their event loops."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import anyio
import pytest
from cluster.said import rows, turns, write_dialogues
from cluster.strict import strict
from cluster.threads import Nodes, on_threads
from support.program import at_once

from safemt_client.cluster.keeper import RemoteKeeper
from safemt_client.results.store.lookups import Lookups
from safemt_client.results.store.rows import ImageRow

_GUARD = "llama-guard-3+block+output"
_TABLES = ("turns", "verdicts", "assessments")


class Read:
    """What was read of each table: after which place, and how many rows. Each time workers go on meanwhile."""

    def __init__(self, nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: dict[str, list[tuple[int, int]]] = {table: [] for table in _TABLES}
        self.waited = 0
        learnt, replies = Lookups.learnt, Lookups.replies

        def counted(store: Lookups, table: str, after: int, *about: str) -> tuple[int, list[tuple[Any, ...]]]:
            self._see_that_all_go_on(nodes)
            found = learnt(store, table, after, *about)
            self.asked[table].append((after, len(found[1])))
            return found

        def slow(store: Lookups, hashes: list[str]) -> dict[str, tuple[Any, ...]]:
            self._see_that_all_go_on(nodes)
            return replies(store, hashes)

        monkeypatch.setattr(Lookups, "learnt", counted)
        monkeypatch.setattr(Lookups, "replies", slow)

    def _see_that_all_go_on(self, nodes: Nodes) -> None:
        """The store answers only once the loop of each worker has done something."""
        for worker in nodes.of("Worker"):
            done = threading.Event()
            worker.loop.call_soon_threadsafe(done.set)
            assert done.wait(30), "a worker does nothing while it waits for the store"
        self.waited += 1


def test_workers_read_what_the_store_has_once_and_go_on_meanwhile(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dialogues(here / "d.jsonl", 40)
    with on_threads(2) as nodes, strict() as endpoint:
        words = ["--provider", f"m@{endpoint.url}", "--judge", f"judge@{endpoint.url}", "--data", "d.jsonl"]
        words += ["--moderator", f"{_GUARD}=judge@{endpoint.url}", "--history", "live", "--db", "a.duckdb"]
        begun = at_once(*words, "--limit", "20")
        read = Read(nodes, monkeypatch)
        done = at_once(*words, "--workers", "2", "--shard-size", "2")
    assert begun.returncode == 0, begun.stdout + begun.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    # Once each: the model, the guard about what was asked and what was said, and the judge.
    assert len(endpoint.times) == 40 * 4
    assert turns(here / "a.duckdb")[2] == 40
    shards = sum(worker.calls.count("take") for worker in nodes.of("Worker"))
    assert shards == 10
    assert read.waited > 3 * shards
    for table, asked in read.asked.items():
        ((count,),) = rows(here / "a.duckdb", f"SELECT count(*) FROM {table}")
        # Once by each worker, however many shards it has.
        assert len([after for after, _ in asked if after == -1]) <= 2, table
        assert count / 2 <= sum(found for _, found in asked) <= 2 * count, table


def test_pictures_that_are_saved_while_the_store_is_asked_for_them_are_known() -> None:
    async def save(*saved: Any) -> None:
        pass

    def ask(*about: Any) -> set[str]:
        anyio.run(keeper.save, ImageRow("new", "image/png", 1, 1, 1, "a.png", None))
        return {"old"}

    keeper = RemoteKeeper(save, ask)
    assert keeper.known_keys("images", "sha256") == {"old", "new"}
