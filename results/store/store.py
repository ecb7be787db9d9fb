"""The store that a run writes: one DuckDB file, append-only, one writer thread with group commit."""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Literal

import duckdb
import pyarrow as pa

from safemt_client import __version__
from safemt_client.providers.errors import InputError
from safemt_client.providers.resources import shortage
from safemt_client.results.sanitize import plain
from safemt_client.results.store import threads
from safemt_client.results.store.batches import ROW_GROUP, arrow_rows, hold_little, told
from safemt_client.results.store.commits import Handed, Watch, tell
from safemt_client.results.store.deliveries import Delivered, Delivery, forget, taken_in
from safemt_client.results.store.errors import (
    StoreError,
    StoreMovedError,
    explain_open_error,
    first_line,
    is_disk_full,
    is_locked,
)
from safemt_client.results.store.held import HeldFile, kept_for_another
from safemt_client.results.store.inbox import empty_into, take
from safemt_client.results.store.inserting import Insertions, insert
from safemt_client.results.store.kept import prepare
from safemt_client.results.store.lookups import Lookups
from safemt_client.results.store.migrations import schema_version
from safemt_client.results.store.place import check_place
from safemt_client.results.store.rows import EventRow, Row
from safemt_client.results.store.server import QueryServer
from safemt_client.results.store.wal import free_name, keep_unread, set_aside

__all__ = ["Expected", "Store"]

Expected = Literal["anything", "store", "nothing"]
"""What must be at the path of a store: whatever it is, a store already, or nothing yet."""

# A commit waits this long to collect more rows, by how many came for the one before, at least: it costs as
# much as the rows of some dozens of turns.
_WINDOWS_S = ((80, 0.2), (64, 0.1), (8, 0.05), (0, 0.02))
_LOG = "64MB"
"""Rows stay in memory while they are only in the log: no more of a long run than these, some 25,000 turns."""
_LOCK_PAUSE_S = 0.15


class Store(Lookups):
    """A store open for writing. Use as a context manager; only one process can hold a file."""

    def __init__(
        self, path: Path, connection: duckdb.DuckDBPyConnection, warnings: list[str], command: str
    ) -> None:
        super().__init__(connection)
        self.path = path
        self.warnings = warnings
        self.watchers: list[Watch] = []
        """Called in the loop with the rows of `save`, once they are committed: those of a commit together."""
        self._queue: queue.SimpleQueue[Handed | None] = queue.SimpleQueue()
        self._failed: StoreError | None = None
        self._closed = False
        self.moved = False
        """Whether the file was renamed, removed or overwritten; rows are written to it until `close`."""
        self._alone = threads.works_alone(connection)
        self._file = HeldFile(path)
        self._server = QueryServer(path, connection, command, lambda rows: take(self, rows))
        self._writer = threading.Thread(target=self._write, name="safemt-store", daemon=True)
        try:
            self._writer.start()
        except RuntimeError:  # no thread can be started
            self._server.close()
            raise

    @classmethod
    def open(
        cls,
        path: Path,
        expected: Expected = "anything",
        *,
        command: str = "run",
        group_bytes: int | None = None,
    ) -> Store:
        """Open or create the store at `path` and bring its schema up to date.

        `expected` must be there; others are told that `command` holds it. `hold_little` has `group_bytes`.

        Raises:
            InputError: not a store or not what is expected, of a newer schema, held by another process, or
                not writable. What was there is unchanged.
        """
        check_place(path)
        if expected == "store" and not path.exists():
            raise InputError(f"{path}: no such store: name one with --db")
        warnings: list[str] = []
        connection, is_new = _connect(path, expected, warnings)
        # Printed at once: the user learns the names even if the start fails.
        for warning in warnings:
            print(f"safemt: {plain(warning)}", file=sys.stderr)
        try:
            if group_bytes is not None and is_new:
                hold_little(connection, group_bytes)
            prepare(connection, path, __version__, is_new=is_new)
            connection.execute("CHECKPOINT store")
            connection.execute("SET enable_external_access = false")
            threads.lock_all_but_threads(connection)
            store = cls(path, connection, warnings, command)
        except (InputError, RuntimeError):
            connection.close()
            raise
        except duckdb.Error as error:
            connection.close()
            raise InputError(explain_open_error(path, error)) from None
        except OSError as error:
            connection.close()
            raise InputError(
                f"{error.filename or path}: {error.strerror}: fix that, or name another --db"
            ) from None
        try:
            empty_into(store, path)
        except (StoreError, duckdb.Error):
            with suppress(StoreError):
                store.close()
            raise
        return store

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Commit what is queued, checkpoint and release the file. Questions to the store are interrupted.

        Raises:
            StoreError: the checkpoint failed.
            StoreMovedError: the file is not what and where it was; the message says where the rows are.
        """
        if self._closed:
            return
        self._closed = True
        answered = self._server.close()
        self._queue.put(None)
        self._writer.join()
        try:
            # With a question at work still, its log keeps what was committed.
            fate = self._settle() if answered and self._failed is None else None
        except duckdb.Error as error:
            raise StoreError(f"{self.path}: {first_line(error)}: what was committed is in its WAL") from None
        finally:
            # A connection at work cannot be closed.
            if answered:
                self._connection.close()
        if fate is not None:
            raise StoreMovedError(fate)

    def _settle(self) -> str | None:
        """Write everything into the file itself; what has become of it, None if it is where it was."""
        wal = self.path.with_name(self.path.name + ".wal")
        if not self._file.is_whole():
            said = f"{self.path}: was overwritten while it was in use: what was in it is lost"
            if not wal.exists():
                return said
            aside = free_name(wal, "overwritten")
            wal.rename(aside)
            return f"{said}, and what was committed since the start is kept as {aside}"
        if self._file.is_here():
            self._connection.execute("CHECKPOINT store")
        else:
            with kept_for_another(wal):
                self._connection.execute("CHECKPOINT store")
        return None if self._file.is_here() else self._file.fate()

    def check(self) -> None:
        """Make sure that the file is what and where it was when it was opened.

        Raises:
            StoreMovedError: it is not. `close` says where its rows are.
        """
        if self.moved or not self._file.is_sound():
            raise StoreMovedError(f"{self.path}: was renamed, removed or overwritten while it was in use")

    async def save(self, *rows: Row) -> None:
        """Append rows in one transaction; return when it is committed.

        Raises:
            StoreError: the commit failed; none of these rows is in the store.
        """
        handed = Handed(rows, asyncio.get_running_loop())
        self._put(handed)
        await handed.wait()

    async def deliver(self, delivery: Delivery) -> bool:
        """Append what another process has sent, once; whether it is new. Return when it is committed.

        Raises:
            InputError: it does not fit the tables, and nothing of it is stored.
            StoreError: as `save`.
        """
        delivered = Delivered(delivery, asyncio.get_running_loop())
        self._put(delivered)
        await delivered.wait()
        return delivered.is_new

    def save_now(self, *rows: Row) -> None:
        """The same for a caller without an event loop, which is also told where the file is not what it was.

        Raises:
            StoreMovedError: the rows are in a file that was renamed, removed or overwritten.
        """
        handed = Handed(rows)
        self._put(handed)
        handed.result()
        if self.moved:
            self.check()

    def save_batches(self, *batches: tuple[type, Iterator[pa.RecordBatch]]) -> None:
        """Append batches of kinds of rows in one transaction, of each kind one batch after the other.

        They are asked for as they are written: no more than a few are held.

        Raises:
            StoreError: none of them is in the store.
            StoreMovedError: they are in a file that was renamed, removed or overwritten.
        """
        if self._failed is not None:
            raise self._failed
        wrong: list[BaseException] = []
        with self._connection.cursor() as cursor:
            cursor.execute("USE store")
            cursor.execute("BEGIN")
            try:
                for kind, of_kind in batches:
                    if (first := next(of_kind, None)) is not None:
                        rows = told(chain((first,), of_kind), wrong)
                        insert(cursor, kind, pa.RecordBatchReader.from_batches(first.schema, rows))
                cursor.execute("COMMIT")
            except Exception as error:  # noqa: BLE001 - whatever DuckDB makes of it
                raise (wrong[0] if wrong else self._cannot_write(error)) from None
        self.moved = self.moved or not self._file.is_sound()
        if self.moved:
            self.check()

    def _cannot_write(self, error: Exception) -> StoreError:
        return StoreError(
            f"{self.path}: cannot write: {shortage(error) or first_line(error)}; "
            "what was committed before is kept: fix that and run the same command again"
        )

    def _put(self, handed: Handed) -> None:
        if self._failed is not None:
            raise self._failed
        self._queue.put(handed)

    def _write(self) -> None:
        cursor = self._connection.cursor()
        cursor.execute("USE store")
        insertions = Insertions(cursor)
        closing = False
        batch: list[Handed] = []
        while not closing:
            came = sum(handed.size for handed in batch)
            window = next(seconds for least, seconds in _WINDOWS_S if came >= least)
            first = self._queue.get()
            if first is None:
                break
            batch = [first]
            time.sleep(window)
            while not self._queue.empty():
                more = self._queue.get()
                if more is None:
                    closing = True
                    break
                batch.append(more)
            self._commit(cursor, insertions, batch)
        cursor.close()

    def _commit(
        self, cursor: duckdb.DuckDBPyConnection, insertions: Insertions, batch: Sequence[Handed]
    ) -> None:
        tables: dict[type, list[Row]] = {}
        for handed in batch:
            for row in handed.rows:
                tables.setdefault(type(row), []).append(row)
        try:
            if self._failed is not None:
                raise self._failed
            cursor.execute("BEGIN")
            for kind, sent in taken_in(cursor, batch).items():
                insertions.insert(kind, pa.concat_tables(sent))
            for kind, rows in tables.items():
                insertions.insert(kind, arrow_rows(kind, rows))
            forget(cursor, tables.get(EventRow, ()))
            cursor.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - whatever it is, the waiters must be told
            if self._failed is None:
                self._failed = self._cannot_write(error)
            tell(batch, self._failed, ())
            return
        self.moved = self.moved or not self._file.is_sound()
        tell(batch, None, self.watchers)
        if self._alone and not threads.is_small(self.path):
            self._alone = False
            threads.use_all(cursor)


def _connect(path: Path, expected: Expected, warnings: list[str]) -> tuple[duckdb.DuckDBPyConnection, bool]:
    """A connection to the file, and whether nothing is in it yet."""
    connection = duckdb.connect(":memory:")
    connection.execute("SET TimeZone = 'UTC'")
    if threads.is_small(path):
        threads.use_one(connection)
    # A store checkpoints itself; a file of another program is to stay as it is, with its log.
    connection.execute("PRAGMA disable_checkpoint_on_shutdown")
    connection.execute(f"SET wal_autocheckpoint = '{_LOG}'")
    quoted = str(path).replace("'", "''")
    # Without its type, a file of SQLite's would have DuckDB fetch an extension from the network.
    attach = f"ATTACH '{quoted}' AS store (TYPE duckdb, ROW_GROUP_SIZE {ROW_GROUP})"
    wal = path.with_name(path.name + ".wal")
    is_new = not path.exists()
    aside: Path | None = None
    try:
        try:
            _patiently(connection, attach)
        except duckdb.Error as error:
            if not ("WAL" in str(error) and wal.exists()) or is_disk_full(error):
                raise
            aside = set_aside(wal, warnings)
            connection.execute(attach)
        connection.execute("USE store")
        # Without its log a file of another program may look empty.
        version = schema_version(connection, is_made=is_new)
        _check_version(version, path, expected if aside is None else "store")
        if aside is None:
            keep_unread(wal, warnings)
    except InputError:
        connection.close()
        if aside is not None:
            aside.rename(wal)
        raise
    except OSError as error:
        connection.close()
        raise InputError(
            f"{error.filename or path}: {error.strerror}: fix that, or name another --db"
        ) from None
    except duckdb.Error as error:
        connection.close()
        explained = explain_open_error(path, error)
        if is_new and not is_locked(error):
            # Half a header, as a full disk leaves it: the same command could not start afresh.
            path.unlink(missing_ok=True)
        raise InputError(explained) from None
    return connection, version == 0


def _check_version(version: int | None, path: Path, expected: Expected) -> None:
    """Refuse a file whose version is not what is expected, before anything in it is changed.

    Raises:
        InputError: it is not.
    """
    if version is None:
        raise InputError(f"{path}: a DuckDB file from another program: name another one with --db")
    if expected == "store" and version == 0:
        raise InputError(f"{path}: not a store of safemt_client: name another one with --db")
    if expected == "nothing" and version > 0:
        raise InputError(f"{path}: another process has made this store meanwhile: run the same command again")


def _patiently(connection: duckdb.DuckDBPyConnection, attach: str) -> None:
    """Attach a file that a reader, such as the viewer, may hold for a moment."""
    for again in (True, True, True, False):
        try:
            connection.execute(attach)
            return
        except duckdb.Error as error:
            if not again or not is_locked(error):
                raise
        time.sleep(_LOCK_PAUSE_S)
