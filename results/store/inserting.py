"""Rows of Arrow into their tables: by a statement of its own, or by one that is planned once.

To plan an insertion takes DuckDB longer than to carry it out with the rows of 50 turns. A writer inserts the
same few kinds of rows again and again.
"""

from __future__ import annotations

import duckdb
import pyarrow as pa

from safemt_client.results.store.schema import TABLES

__all__ = ["Insertions", "insert"]


def insert(cursor: duckdb.DuckDBPyConnection, kind: type, rows: pa.Table | pa.RecordBatchReader) -> None:
    """Insert rows of a kind, their columns in any order."""
    # The next rows of the kind take the name over: to give it up each time takes as long as a few dozen rows.
    name = f"incoming_{TABLES[kind]}"
    cursor.register(name, rows)
    cursor.execute(f"INSERT INTO {TABLES[kind]} BY NAME SELECT * FROM {name}")


class Insertions:
    """The insertions of one cursor. A kind of rows that comes a second time gets a statement that is kept."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection) -> None:
        self._cursor = cursor
        self._next: dict[type, _Next | None] = {}

    def insert(self, kind: type, rows: pa.Table) -> None:
        """Insert rows of a kind, their columns in any order."""
        if kind not in self._next:
            # Most of what a plan stores comes once: a statement that is kept would make it dearer.
            self._next[kind] = None
            insert(self._cursor, kind, rows)
            return
        following = self._next[kind]
        if following is None or following.schema != rows.schema:
            following = self._next[kind] = self._prepared(kind, rows)
        following.rows = rows
        self._cursor.execute(f"EXECUTE insert_{TABLES[kind]}")
        following.rows = None

    def _prepared(self, kind: type, rows: pa.Table) -> _Next:
        """Have an insertion planned for rows that look like these, in place of an earlier one."""
        table, following = TABLES[kind], _Next(rows)
        self._cursor.register(f"next_{table}", following)
        self._cursor.execute(
            f"PREPARE insert_{table} AS INSERT INTO {table} BY NAME SELECT * FROM next_{table}"
        )
        return following


class _Next:
    """Where a planned insertion finds the rows that it is to insert: it asks anew each time."""

    def __init__(self, rows: pa.Table) -> None:
        self.schema = rows.schema
        self.rows: pa.Table | None = rows

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        rows = self.schema.empty_table() if self.rows is None else self.rows
        return rows.__arrow_c_stream__(requested_schema)
