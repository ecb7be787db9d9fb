"""Rows go in however often they come, by a statement that is kept once a kind of them has come before."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import duckdb
import pyarrow as pa
import pytest

from safemt_client.results.store.batches import arrow_rows
from safemt_client.results.store.inserting import Insertions
from safemt_client.results.store.rows import EventRow

DETAIL = '{"said": "ü\N{GRINNING FACE}"}'


def rows(*names: str) -> pa.Table:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    return arrow_rows(EventRow, [EventRow("run", "session", moment, name, DETAIL) for name in names])


@pytest.fixture
def cursor() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE run_events (run_id VARCHAR, session_id VARCHAR, recorded_at TIMESTAMP, event VARCHAR, "
            "detail VARCHAR)"
        )
        yield connection


def stored(cursor: duckdb.DuckDBPyConnection) -> list[str]:
    found = cursor.execute(
        "SELECT event, run_id, session_id, recorded_at, detail FROM run_events ORDER BY ALL"
    ).fetchall()
    assert {row[1:] for row in found} == {("run", "session", datetime(2026, 1, 1), DETAIL)}
    return [row[0] for row in found]


def test_the_same_kind_again_and_again(cursor: duckdb.DuckDBPyConnection) -> None:
    insertions = Insertions(cursor)
    for number in range(5):
        cursor.execute("BEGIN")
        insertions.insert(EventRow, rows(f"{number}a", f"{number}b"))
        cursor.execute("COMMIT")
    assert stored(cursor) == [f"{number}{letter}" for number in range(5) for letter in "ab"]


def test_columns_in_another_order_and_in_pieces(cursor: duckdb.DuckDBPyConnection) -> None:
    insertions = Insertions(cursor)
    for number in range(2):
        insertions.insert(EventRow, rows(f"{number}"))
    names = rows("x").column_names
    insertions.insert(EventRow, rows("2").select(names[::-1]))
    insertions.insert(EventRow, pa.concat_tables([rows("3"), rows("4", "5")]))
    insertions.insert(EventRow, rows())
    assert stored(cursor) == ["0", "1", "2", "3", "4", "5"]


def test_a_table_that_was_changed_meanwhile(cursor: duckdb.DuckDBPyConnection) -> None:
    insertions = Insertions(cursor)
    for number in range(2):
        insertions.insert(EventRow, rows(f"{number}"))
    cursor.execute("ALTER TABLE run_events ADD COLUMN more INTEGER DEFAULT 1")
    insertions.insert(EventRow, rows("2"))
    assert stored(cursor) == ["0", "1", "2"]


def test_nothing_of_a_transaction_that_is_taken_back(cursor: duckdb.DuckDBPyConnection) -> None:
    insertions = Insertions(cursor)
    insertions.insert(EventRow, rows("0"))
    cursor.execute("BEGIN")
    insertions.insert(EventRow, rows("1"))
    cursor.execute("ROLLBACK")
    insertions.insert(EventRow, rows("2"))
    assert stored(cursor) == ["0", "2"]
