"""The store on real files: what is acknowledged is there, damage is told, nothing else opens."""

import subprocess
import sys
import threading
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import anyio
import duckdb
import pytest

from safemt_client.providers.errors import InputError
from safemt_client.results.store import migrations
from safemt_client.results.store.errors import StoreError, is_locked
from safemt_client.results.store.reader import open_reader
from safemt_client.results.store.rows import EventRow, TurnRow
from safemt_client.results.store.store import Store

ROOT = Path(__file__).resolve().parents[3]
TURN = TurnRow(
    request_hash="h0",
    attempt=1,
    run_id="r",
    session_id="s",
    target_key="t",
    outcome="answered",
    text="hello",
    reasoning=None,
    finish_reason="stop",
    error=None,
    status_code=200,
    resolved_model=None,
    response_id=None,
    prompt_tokens=1,
    completion_tokens=1,
    reasoning_tokens=None,
    cached_tokens=None,
    cost_usd=None,
    started_at=datetime(2026, 1, 1, tzinfo=UTC),
    latency_s=0.1,
    request="[]",
    raw=None,
    batch_key=None,
    refusal_rule=None,
)


def test_many_at_once_are_all_there_afterwards(tmp_path: Path) -> None:
    async def main() -> None:
        with Store.open(tmp_path / "d.duckdb") as store:
            async with anyio.create_task_group() as group:
                for number in range(500):
                    group.start_soon(store.save, replace(TURN, request_hash=f"h{number}"))
            assert len(store.observed([f"h{n}" for n in range(600)])) == 500

    anyio.run(main)
    with open_reader(tmp_path / "d.duckdb") as reader:
        assert reader.query("SELECT count(DISTINCT request_hash) FROM turns").rows == [(500,)]


def test_an_error_is_not_an_observation_and_the_first_observation_stays(tmp_path: Path) -> None:
    with Store.open(tmp_path / "d.duckdb") as store:
        store.save_now(
            replace(TURN, outcome="error_transient", text=""),
            replace(TURN, request_hash="h1", outcome="error_permanent"),
            replace(TURN, text="second", started_at=datetime(2026, 1, 3, tzinfo=UTC)),
            replace(TURN, text="first", started_at=datetime(2026, 1, 2, tzinfo=UTC)),
        )
        assert store.observed(["h0", "h1", "h2"]) == {"h0": "answered"}
        assert store.texts(["h0", "h1", "h2"]) == {"h0": "first"}


@pytest.mark.parametrize("change", ["other order", "a column more"])
def test_rows_are_stored_by_the_names_of_their_columns(tmp_path: Path, change: str) -> None:
    path = tmp_path / "d.duckdb"
    with Store.open(path) as store:
        columns = store.query("SELECT * FROM turns").columns
    with duckdb.connect(str(path)) as connection:
        if change == "other order":
            names = ", ".join(reversed(columns))
            connection.execute(f"CREATE TABLE other AS SELECT {names} FROM turns")
        else:
            connection.execute("CREATE TABLE other AS SELECT 'x' AS added, * FROM turns")
        connection.execute("DROP TABLE turns")
        connection.execute("ALTER TABLE other RENAME TO turns")
    with Store.open(path) as store:
        store.save_now(TURN)
        [row] = store.query(f"SELECT {', '.join(columns)} FROM turns").rows
    expected = asdict(TURN) | {"started_at": TURN.started_at.replace(tzinfo=None)}
    assert dict(zip(columns, row, strict=True)) == expected


def test_any_text_that_json_can_carry(tmp_path: Path) -> None:
    texts = ["\ud83d alone", "nul \x00 inside", "\u202ertl", "🎈" * 1000]
    with Store.open(tmp_path / "d.duckdb") as store:
        store.save_now(*(replace(TURN, request_hash=str(n), text=text) for n, text in enumerate(texts)))
        found = store.texts([str(n) for n in range(len(texts))])
    assert [found[str(n)] for n in range(len(texts))] == ["\\ud83d alone", *texts[1:]]


def test_a_failed_commit_is_told_and_nothing_more_is_acknowledged(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "d.duckdb")
    store.save_now(TURN)
    with store._connection.cursor() as cursor:
        cursor.execute("USE store")
        cursor.execute("ALTER TABLE turns RENAME TO gone")
    with pytest.raises(StoreError) as caught:
        store.save_now(replace(TURN, request_hash="h1"))
    assert "run the same command again" in str(caught.value)
    with pytest.raises(StoreError):
        store.save_now(EventRow("r", "s", datetime.now(UTC), "started", "{}"))
    store.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("safemt")]


def test_a_log_that_cannot_be_replayed_is_set_aside(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_store import TURN; from safemt_client.results.store.store import Store\n"
        "store = Store.open(Path('d.duckdb')); store.save_now(TURN); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, check=False)
    log = tmp_path / "d.duckdb.wal"
    content = bytearray(log.read_bytes())
    content[len(content) // 3 :] = b"\xff" * (len(content) - len(content) // 3)
    log.write_bytes(content)
    with Store.open(tmp_path / "d.duckdb") as store:
        aside = list(tmp_path.glob("*.unreadable-*"))
        assert len(aside) == 1
        assert aside[0].read_bytes() == content
        assert str(aside[0]) in store.warnings[0]
        store.save_now(TURN)
        assert len(store.observed(["h0"])) == 1


def test_rows_that_cannot_be_stored_are_an_error_and_nobody_waits_for_ever(tmp_path: Path) -> None:
    with Store.open(tmp_path / "d.duckdb") as store:
        with pytest.raises(StoreError, match="cannot write"):
            store.save_now(replace(TURN, prompt_tokens=2**70))
        with pytest.raises(StoreError):
            store.save_now(TURN)


def test_a_corrupt_block_is_no_lock() -> None:
    assert not is_locked(
        duckdb.Error("Corrupt database file: checksum does not match in block at location 0")
    )
    assert is_locked(duckdb.IOException('IO Error: Could not set lock on file "d": Conflicting lock is held'))


def test_migrations_run_once_in_order_and_are_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(tmp_path / "d.duckdb") as store:
        store.save_now(TURN)
        known = len(store.query("SELECT * FROM schema_migrations").rows)
    added = (
        *migrations.MIGRATIONS,
        ("add a note", lambda c: c.execute("ALTER TABLE turns ADD COLUMN note VARCHAR")),
    )
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", added)
        for _ in range(2):
            with Store.open(tmp_path / "d.duckdb") as store:
                assert store.query("SELECT note FROM turns").rows == [(None,)]
                names = store.query("SELECT version, name FROM schema_migrations ORDER BY version").rows
                assert len(names) == known + 1
                assert names[-1] == (known + 1, "add a note")
    with pytest.raises(InputError, match="newer"):
        Store.open(tmp_path / "d.duckdb")


def test_every_table_column_and_view_says_what_it_is(tmp_path: Path) -> None:
    with Store.open(tmp_path / "d.duckdb") as store:
        for kind in ("table_name, comment FROM duckdb_tables()", "view_name, comment FROM duckdb_views()"):
            rows = store.query(f"SELECT {kind} WHERE database_name = 'store' AND NOT internal").rows
            assert rows
            assert [name for name, comment in rows if not comment and name != "schema_migrations"] == []
        rows = store.query(
            "SELECT column_name, comment FROM duckdb_columns() WHERE database_name = 'store' AND NOT internal "
            "AND table_name IN (SELECT table_name FROM duckdb_tables()) AND table_name <> 'schema_migrations'"
        ).rows
        assert [name for name, comment in rows if not comment] == []


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.write_text("x" * 9000), "not a DuckDB file"),
        (lambda path: duckdb.connect(str(path)).execute("CREATE TABLE t (i INT)").close(), "another program"),
    ],
)
def test_what_is_no_store(tmp_path: Path, make: object, said: str) -> None:
    path = tmp_path / "d.duckdb"
    make(path)  # type: ignore[operator]
    with pytest.raises(InputError, match=said):
        Store.open(path)


def test_there_is_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        Store.open(tmp_path / "none" / "d.duckdb")


def test_a_store_from_before_batches_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "old.duckdb"
    Store.open(path).close()
    with duckdb.connect(path) as old:
        for (view,) in old.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall():
            old.execute(f"DROP VIEW {view}")
        for change in (
            "DROP TABLE batches",
            *(
                f"DROP TABLE {table}"
                for table in ("comments", "human_labels", "endpoint_facts", "cost_leases")
            ),
            *(f"DROP TABLE calibration_{name}" for name in ("runs", "replies", "labels", "figures")),
            *(f"DROP TABLE anchor_{name}" for name in ("runs", "replies")),
            *(f"DROP TABLE stop_{name}" for name in ("rules", "order", "decisions", "events")),
            *(
                f"DROP TABLE {table}"
                for table in ("label_draws", "drawn_replies", "server_use", "deliveries")
            ),
            "DROP TABLE batch_requests",
            *(f"DROP TABLE {table}" for table in ("run_moderators", "assessments", "moderations")),
            *(f"ALTER TABLE turns DROP COLUMN {name}" for name in ("intervention", "model_request_hash")),
            "ALTER TABLE turns DROP COLUMN batch_key",
            "ALTER TABLE turns ALTER latency_s SET NOT NULL",
            "ALTER TABLE turns DROP COLUMN refusal_rule",
            *(
                f"ALTER TABLE verdicts DROP COLUMN {column}"
                for column in (
                    *("cached_tokens", "rubric", "refusal_kind", "category"),
                    *("severity", "specificity", "confidence", "batch_key"),
                )
            ),
            "DELETE FROM schema_migrations WHERE version > 2",
        ):
            old.execute(change)
    with Store.open(path) as store:
        store.save_now(replace(TURN, latency_s=None, batch_key="b"))
        assert store.query("SELECT latency_s, batch_key FROM turns").rows == [(None, "b")]
        comments = store.query(
            "SELECT count(*) FROM duckdb_columns() WHERE database_name = 'store' AND comment IS NULL "
            "AND table_name IN ('turns', 'verdicts', 'batches', 'batch_requests')"
        )
        assert comments.rows == [(0,)]


def test_a_column_that_rows_have_and_an_older_store_lacks_is_added(tmp_path: Path) -> None:
    path = tmp_path / "d.duckdb"
    Store.open(path).close()
    with duckdb.connect(path) as old:
        for (view,) in old.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall():
            old.execute(f"DROP VIEW {view}")
        old.execute("ALTER TABLE batches DROP COLUMN detail")
    with Store.open(path) as store:
        assert store.query("SELECT detail FROM batches").rows == []
        [(name,)] = store.query("SELECT name FROM schema_migrations ORDER BY applied_at DESC LIMIT 1").rows
        assert name == "add batches.detail"
