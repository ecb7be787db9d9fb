"""Where people's labels and comments are taken: on the disk at once, in the store soon after."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb

from safemt_client.providers.errors import InputError
from safemt_client.results.store.batches import arrow_rows
from safemt_client.results.store.handing import hand_over
from safemt_client.results.store.inbox import Said, put, waiting
from safemt_client.results.store.queries import Result
from safemt_client.results.store.rows import CommentRow, HumanLabelRow, Row
from safemt_client.results.store.schema import TABLES
from safemt_client.results.store.store import Store
from safemt_client.results.store.views import view_texts
from safemt_client.viewer.snapshot import Snapshot

__all__ = ["Desk", "People", "people_of"]

_PAUSE_S, _AGAIN_S = 5.0, 5.0
"""How long labels are collected before the store is opened, and the time to the next try if it is held."""
_VIEWS = ("current_human_labels", "human_decisions", "current_comments")


class People:
    """Answers questions about what people have said, with all that has been taken so far."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection) -> None:
        self._cursor = cursor

    def query(self, sql: str, parameters: Sequence[Any] | None = None, limit: int | None = None) -> Result:
        """Rows of one statement."""
        self._cursor.execute(sql, parameters)
        rows = self._cursor.fetchall() if limit is None else self._cursor.fetchmany(limit)
        return Result([column[0] for column in self._cursor.description or ()], rows)

    def dicts(self, sql: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """The same with the names of the columns."""
        found = self.query(sql, parameters)
        return [dict(zip(found.columns, row, strict=True)) for row in found.rows]

    def session(self) -> duckdb.DuckDBPyConnection | None:
        """None: there is no file."""
        return None


@contextmanager
def people_of(snapshot: Snapshot, said: Sequence[Said]) -> Iterator[People]:
    """What people have said: what the copy of the store has, and `said`."""
    with snapshot.cursor() as cursor:
        for kind in (HumanLabelRow, CommentRow):
            table = TABLES[kind]
            cursor.register(f"said_{table}", arrow_rows(kind, [row for row in said if type(row) is kind]))
            cursor.execute(
                f"CREATE TEMP VIEW {table} AS SELECT * FROM memory.main.{table} "
                f"UNION ALL BY NAME SELECT * FROM said_{table}"
            )
        for name in _VIEWS:
            text = view_texts()[name]
            cursor.execute(f"CREATE TEMP VIEW {name} AS{text.partition(' AS')[2]}")
        yield People(cursor)


class Desk:
    """Takes rows, and hands them to the store from a thread of its own."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        # What the copy of the store may not have yet.
        self._said: list[Said] = list(waiting(snapshot.path))
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self.held: str | None = None
        """Why what was said still waits for the store; None if it is in it."""
        self._thread: threading.Thread | None = None
        if self._said:
            self._hand_over_soon()

    def check_texts(self) -> None:
        """Refuse what facts are of no use for.

        Raises:
            InputError: these are facts.
        """
        if self._snapshot.facts is not None:
            raise InputError("facts have no texts: label, and comment, in the viewer of a store")

    def say(self, *rows: Said) -> None:
        """Take rows; return when they are on the disk.

        Raises:
            InputError: they cannot be written, and are not taken.
        """
        self.check_texts()
        put(self._snapshot.path, *rows)
        with self._lock:
            self._said += rows
            self._hand_over_soon()

    def write(self, *rows: Row) -> None:
        """Append other rows to the store itself; return when they are on the disk.

        Raises:
            InputError: another program holds the store, or it cannot be written.
        """
        with self._snapshot.at_rest(), Store.open(self._snapshot.path, "store", command="label") as store:
            store.save_now(*rows)

    @contextmanager
    def people(self) -> Iterator[People]:
        """What people have said, to be asked. Of replies and runs there is what the snapshot has."""
        with self._lock:
            said = tuple(self._said)
        with people_of(self._snapshot, said) as people:
            yield people

    def close(self) -> None:
        """Hand over what is left. What the store cannot take waits beside it."""
        self._closing.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def _hand_over_soon(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="safemt-desk", daemon=True)
            self._thread.start()
        self._wake.set()

    def _work(self) -> None:
        while True:
            self._wake.wait()
            self._closing.wait(_PAUSE_S)
            self._wake.clear()
            with self._snapshot.at_rest():
                self.held = hand_over(self._snapshot.path)
            if self._closing.is_set():
                return
            if self.held is not None:
                self._closing.wait(_AGAIN_S)
                self._wake.set()
