"""Who waits for a commit is told once it is made, together with all others, and whoever watches before them."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest

from safemt_client.results.store import store as of_stores
from safemt_client.results.store.rows import EventRow, Row
from safemt_client.results.store.store import Store


def row(name: str) -> EventRow:
    return EventRow("run", "session", datetime(2026, 1, 1, tzinfo=UTC), name, "{}")


def stored(store: Store) -> set[str]:
    return {name for (name,) in store.query("SELECT event FROM run_events").rows}


class Watched:
    """What a watcher of the store was told of."""

    def __init__(self) -> None:
        self.times = 0
        self.seen: set[str] = set()

    def saved(self, rows: Sequence[Row]) -> None:
        self.times += 1
        self.seen |= {row.event for row in rows if isinstance(row, EventRow)}


def test_rows_of_one_commit_are_told_together_in_each_loop(tmp_path: Path) -> None:
    watched = Watched()

    async def one(store: Store, name: str) -> None:
        await store.save(row(name))
        assert name in watched.seen

    async def many(store: Store, thread: str) -> None:
        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(one, store, f"{thread}{number}")

    with Store.open(tmp_path / "d.duckdb") as store:
        store.watchers.append(watched.saved)
        threads = [threading.Thread(target=anyio.run, args=(many, store, name)) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        names = [f"{thread}{number}" for thread in "ab" for number in range(100)]
        assert watched.seen == {*names}
        assert watched.times < 100
        assert stored(store) == {*names}


def test_rows_of_a_cancelled_waiter_are_stored_and_what_a_watcher_raises_is_heard(tmp_path: Path) -> None:
    watched = Watched()

    def raising(rows: Sequence[Row]) -> None:
        raise ValueError("no more of this")

    async def main(store: Store) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(store.save, row("given up"))
            await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        await store.save(row("later"))
        store.watchers.append(raising)
        with pytest.raises(ValueError, match="no more of this"):
            await store.save(row("heard"))

    with Store.open(tmp_path / "d.duckdb") as store:
        store.watchers.append(watched.saved)
        anyio.run(main, store)
        names = ["given up", "later", "heard"]
        assert watched.seen == stored(store) == {*names}


def test_rows_of_a_long_run_do_not_stay_in_memory_until_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_stores, "_LOG", "100KB")
    path = tmp_path / "d.duckdb"
    with Store.open(path) as store:
        before = path.stat().st_size
        for number in range(60):
            data = os.urandom(5_000).hex()
            store.save_now(EventRow("run", "session", datetime(2026, 1, 1, tzinfo=UTC), str(number), data))
        assert path.stat().st_size > before + 200_000
        assert path.with_name("d.duckdb.wal").stat().st_size < 200_000
        assert len(stored(store)) == 60
    with Store.open(path) as store:
        assert len(stored(store)) == 60
