"""With how many threads a store works: one while it is small, and one for each core once it has grown."""

from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from safemt_client.results.store import batches, threads
from safemt_client.results.store.rows import HumanLabelRow
from safemt_client.results.store.store import Store


def save(store: Store, count: int = 1) -> None:
    for number in range(count):
        store.save_now(HumanLabelRow(f"q{number}", "d", "", "me", "safe", datetime(2026, 1, 1, tzinfo=UTC)))


def used(store: Store) -> int:
    ((found,),) = store.query("SELECT current_setting('threads')").rows
    return int(found)


@pytest.fixture
def cores() -> int:
    with duckdb.connect() as connection:
        found = connection.execute("SELECT current_setting('threads')").fetchone()
    assert found is not None
    return int(found[0])


def test_it_works_alone_until_it_has_grown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int
) -> None:
    with Store.open(tmp_path / "s.duckdb") as store:
        save(store)
        assert used(store) == 1
        monkeypatch.setattr(threads, "_SMALL_BYTES", 1)
        # Whoever has saved something is told before it is looked whether the file has grown.
        save(store, 2)
        assert used(store) == cores
    with Store.open(tmp_path / "s.duckdb") as store:
        assert used(store) == cores
    monkeypatch.setattr(threads, "_SMALL_BYTES", 2**30)
    with Store.open(tmp_path / "s.duckdb") as store:
        assert used(store) == 1


def test_one_that_is_to_hold_little_gets_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_SMALL_BYTES", 1)
    monkeypatch.setattr(batches, "_THREADS", 3)
    with Store.open(tmp_path / "s.duckdb", group_bytes=1_000_000) as store:
        save(store, 2)
        assert used(store) == 3


def test_no_other_setting_can_be_changed(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s.duckdb") as store, store._connection.cursor() as cursor:
        for statement in ("SET memory_limit = '1GB'", "SET allowed_configs = []", "RESET lock_configuration"):
            with pytest.raises(duckdb.Error, match="configuration"):
                cursor.execute(statement)
