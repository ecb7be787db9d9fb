"""The store that a run writes: one DuckDB file, append-only, one writer thread with group commit."""

from __future__ import annotations

import asyncio
import mmap
import os
import queue
import shlex
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, get_type_hints

import duckdb
import pyarrow as pa

from safemt_client import __version__
from safemt_client.providers.errors import InputError, SafemtError
from safemt_client.results.sanitize import plain
from safemt_client.results.store.migrations import TABLES, create_views, migrate
from safemt_client.results.store.rows import Row
from safemt_client.results.store.server import QueryServer

__all__ = ["OpenBatch", "Result", "Store", "StoreError"]

# A commit waits this long for company, longer while there is much of it: 50 turns cost hardly more than 5.
_WINDOW_S, _BUSY_WINDOW_S, _BUSY = 0.02, 0.05, 8
_LOCK_PAUSE_S = 0.15
_FULL = ("No space left", "File too large", "quota exceeded")
_DAMAGED = ("Corrupt database file", "Could not read enough bytes")
_OBSERVED = "('answered', 'refused_by_provider', 'refused_by_guard', 'truncated', 'empty')"
_ARROW = {
    "str": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "datetime": pa.timestamp("us"),
}


class StoreError(SafemtError):
    """The store cannot be written. What was acknowledged before is in it."""


@dataclass(frozen=True, slots=True)
class Result:
    """Rows of a query."""

    columns: list[str]
    rows: list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class OpenBatch:
    """A batch whose results are still to come.

    `key` is our name of it, `remote_id` the endpoint's (None if the answer to its submission was lost);
    `hashes` are its requests without a result yet, of `total`; `since` is when it was intended.
    """

    key: str
    remote_id: str | None
    since: datetime
    total: int
    hashes: tuple[str, ...]


class Store:
    """A store open for writing. Use as a context manager; only one process can hold a file."""

    def __init__(self, path: Path, connection: duckdb.DuckDBPyConnection, warnings: list[str]) -> None:
        self.path = path
        self.warnings = warnings
        # Told of the rows of each `save`, once they are committed.
        self.watchers: list[Callable[[Sequence[Row]], None]] = []
        self._connection = connection
        self._queue: queue.SimpleQueue[tuple[Sequence[Row], Future[None]] | None] = queue.SimpleQueue()
        self._failed: StoreError | None = None
        self._closed = False
        self._server = QueryServer(path, connection)
        self._writer = threading.Thread(target=self._write, name="safemt-store", daemon=True)
        self._writer.start()

    @classmethod
    def open(cls, path: Path) -> Store:
        """Open or create the store at `path` and bring its schema up to date.

        Raises:
            InputError: not a store, of a newer schema, held by another run, or not writable.
        """
        if path.is_dir():
            raise InputError(f"{path}: is a folder: name a file with --db")
        if not path.parent.is_dir():
            raise InputError(f"{path}: there is no folder {path.parent}: create it, or name another --db")
        warnings: list[str] = []
        connection = _connect(path, warnings)
        # At once: whatever comes of this start, the names are told.
        for warning in warnings:
            print(f"safemt: {plain(warning)}", file=sys.stderr)
        try:
            migrate(connection, path, __version__)
            create_views(connection)
            connection.execute("CHECKPOINT store")
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
            return cls(path, connection, warnings)
        except InputError:
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
        """Commit what is queued, checkpoint and let go of the file."""
        if self._closed:
            return
        self._closed = True
        self._server.close()
        self._queue.put(None)
        self._writer.join()
        try:
            if self._failed is None:
                self._connection.execute("CHECKPOINT store")
        except duckdb.Error as error:
            raise StoreError(f"{self.path}: {_first_line(error)}: what was committed is in its WAL") from None
        finally:
            self._connection.close()

    async def save(self, *rows: Row) -> None:
        """Append rows in one transaction; return when it is committed.

        Raises:
            StoreError: the commit failed; none of these rows is in the store.
        """
        await asyncio.wrap_future(self._put(rows))
        for watcher in self.watchers:
            watcher(rows)

    def save_now(self, *rows: Row) -> None:
        """The same for a caller without an event loop."""
        self._put(rows).result()

    def query(self, sql: str, parameters: Sequence[Any] | None = None, limit: int | None = None) -> Result:
        """Rows of a statement, on a cursor of its own beside the writer."""
        with self._connection.cursor() as cursor:
            cursor.execute("USE store")
            cursor.execute(sql, parameters)
            rows = cursor.fetchall() if limit is None else cursor.fetchmany(limit)
            return Result([column[0] for column in cursor.description or ()], rows)

    def observed(self, hashes: Sequence[str]) -> dict[str, str]:
        """The outcomes of those requests, by hash, that were observed: they are not asked again."""
        return self._first("outcome", hashes)

    def texts(self, hashes: Sequence[str]) -> dict[str, str]:
        """The text of each reply that was observed, by request hash. Reads far more than `observed`."""
        return self._first("text", hashes)

    def replies(self, hashes: Sequence[str]) -> dict[str, tuple[Any, ...]]:
        """The replies to those requests, by hash, that were observed.

        Each is outcome, text, reasoning, finish reason, error, model, latency in seconds and error code.
        """
        rows = self._join(
            f"""SELECT request_hash, outcome, text, reasoning, finish_reason, error, resolved_model,
                       latency_s, error_code
                FROM turns SEMI JOIN wanted ON request_hash = hash WHERE outcome IN {_OBSERVED}
                QUALIFY row_number() OVER (PARTITION BY request_hash ORDER BY started_at) = 1""",
            hashes,
        )
        return {row[0]: row[1:] for row in rows}

    def judged_as(self, hashes: Sequence[str]) -> dict[str, str]:
        """Of moderated turns whose reply is the model's own: the hash under which its verdict is kept."""
        return dict(
            self._join(
                "SELECT request_hash, arg_min(model_request_hash, started_at) FROM turns "
                "SEMI JOIN wanted ON request_hash = hash "
                f"WHERE intervention IN ('none', 'passed') AND outcome IN {_OBSERVED} GROUP BY request_hash",
                hashes,
            )
        )

    # As the view current_turns, which would sort all turns for it.
    def _first(self, column: str, hashes: Sequence[str]) -> dict[str, str]:
        return dict(
            self._join(
                f"SELECT request_hash, arg_min({column}, started_at) FROM turns "
                f"SEMI JOIN wanted ON request_hash = hash WHERE outcome IN {_OBSERVED} GROUP BY request_hash",
                hashes,
            )
        )

    def final(self, hashes: Sequence[str]) -> set[str]:
        """Those of the verdicts, by hash, that are final; a judge's error is not."""
        found = self._join(
            "SELECT DISTINCT verdict_hash FROM verdicts SEMI JOIN wanted ON verdict_hash = hash "
            "WHERE reason IS DISTINCT FROM 'judge_error'",
            hashes,
        )
        return {row[0] for row in found}

    def final_hashes(self) -> frozenset[str]:
        """The hashes of all verdicts that are final."""
        rows = self.query(
            "SELECT DISTINCT verdict_hash FROM verdicts WHERE reason IS DISTINCT FROM 'judge_error'"
        ).rows
        return frozenset(row[0] for row in rows)

    def final_verdicts(self, hashes: Sequence[str]) -> dict[str, tuple[Any, ...]]:
        """Those of the verdicts that are final, by hash.

        Each is label, reason, kind of refusal, explanation, category, severity, specificity, confidence.
        """
        rows = self._join(
            """SELECT verdict_hash, label, reason, refusal_kind, explanation, category, severity, specificity,
                      confidence
               FROM verdicts SEMI JOIN wanted ON verdict_hash = hash
               WHERE reason IS DISTINCT FROM 'judge_error'
               QUALIFY row_number() OVER (PARTITION BY verdict_hash ORDER BY recorded_at DESC) = 1""",
            hashes,
        )
        return {row[0]: row[1:] for row in rows}

    def open_batches(self, hashes: Sequence[str]) -> list[OpenBatch]:
        """The batches under way that hold one of these requests."""
        rows = self._join(
            """SELECT batch_key, remote_id, requests, since, waiting FROM open_batches
               WHERE batch_key IN (
                   SELECT batch_key FROM batch_requests SEMI JOIN wanted ON request_hash = hash)
               ORDER BY since""",
            hashes,
        )
        return [
            OpenBatch(key, remote_id, since.replace(tzinfo=UTC), total, tuple(found))
            for key, remote_id, total, since, found in rows
        ]

    def known_keys(self, table: str, column: str) -> set[str]:
        """All values of a key column."""
        return {row[0] for row in self.query(f"SELECT DISTINCT {column} FROM {table}").rows}

    def _join(self, sql: str, hashes: Sequence[str]) -> list[tuple[Any, ...]]:
        if not hashes:
            return []
        with self._connection.cursor() as cursor:
            cursor.execute("USE store")
            cursor.register("wanted", pa.table({"hash": pa.array(hashes, pa.string())}))
            return cursor.execute(sql).fetchall()

    def _put(self, rows: Sequence[Row]) -> Future[None]:
        future: Future[None] = Future()
        if self._failed is not None:
            future.set_exception(self._failed)
        else:
            self._queue.put((rows, future))
        return future

    def _write(self) -> None:
        cursor = self._connection.cursor()
        cursor.execute("USE store")
        closing = False
        batch: list[tuple[Sequence[Row], Future[None]]] = []
        while not closing:
            window = _BUSY_WINDOW_S if len(batch) >= _BUSY else _WINDOW_S
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
            self._commit(cursor, batch)
        cursor.close()

    def _commit(
        self,
        cursor: duckdb.DuckDBPyConnection,
        batch: list[tuple[Sequence[Row], Future[None]]],
    ) -> None:
        tables: dict[type, list[Row]] = {}
        for rows, _ in batch:
            for row in rows:
                tables.setdefault(type(row), []).append(row)
        try:
            if self._failed is not None:
                raise self._failed
            cursor.execute("BEGIN")
            for kind, rows in tables.items():
                cursor.register("incoming", _arrow(kind, rows))
                cursor.execute(f"INSERT INTO {TABLES[kind]} BY NAME SELECT * FROM incoming")
                cursor.unregister("incoming")
            cursor.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            if self._failed is None:
                self._failed = StoreError(
                    f"{self.path}: cannot write: {_first_line(error)}; "
                    "what was committed before is kept: fix that and run the same command again"
                )
            for _, future in batch:
                if future.set_running_or_notify_cancel():
                    future.set_exception(self._failed)
            return
        for _, future in batch:
            # A waiter that was cancelled meanwhile has cancelled its future: the row is in anyhow.
            if future.set_running_or_notify_cancel():
                future.set_result(None)


@cache
def _arrow_schema(kind: type) -> pa.Schema:
    hints = get_type_hints(kind)
    columns = []
    for field in fields(kind):
        options = getattr(hints[field.name], "__args__", (hints[field.name],))
        name = next(option.__name__ for option in options if option is not type(None))
        columns.append((field.name, _ARROW[name]))
    return pa.schema(columns)


def _arrow(kind: type, rows: Sequence[Row]) -> pa.Table:
    schema = _arrow_schema(kind)
    return pa.table(
        {name: [_storable(getattr(row, name)) for row in rows] for name in schema.names}, schema=schema
    )


def _storable(value: Any) -> Any:
    """What a column can hold: times as UTC without a zone, lone surrogates (JSON may carry them) as codes."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None)
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    return value


def _connect(path: Path, warnings: list[str]) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:")
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET wal_autocheckpoint = '1GB'")
    quoted = str(path).replace("'", "''")
    # Without its type, a file of SQLite's would have DuckDB fetch an extension from the network.
    attach = f"ATTACH '{quoted}' AS store (TYPE duckdb, ROW_GROUP_SIZE 8192)"
    wal = path.with_name(path.name + ".wal")
    is_new = not path.exists()
    try:
        try:
            _patiently(connection, attach)
        except duckdb.Error as error:
            if not ("WAL" in str(error) and wal.exists()) or any(words in str(error) for words in _FULL):
                raise
            aside = _aside(wal)
            wal.rename(aside)
            warnings.append(f"{wal} cannot be replayed; set aside as {aside}: its last turns are asked again")
            connection.execute(attach)
        else:
            _keep_unread(wal, warnings)
        connection.execute("USE store")
    except OSError as error:
        connection.close()
        raise InputError(
            f"{error.filename or path}: {error.strerror}: fix that, or name another --db"
        ) from None
    except duckdb.Error as error:
        connection.close()
        explained = explain_open_error(path, error)
        if is_new and not is_locked(error):
            # Half a header, as a full disk leaves it: the same command could not begin anew.
            path.unlink(missing_ok=True)
        raise InputError(explained) from None
    return connection


def _aside(wal: Path) -> Path:
    name = f"{wal.name}.unreadable-{datetime.now(UTC):%Y%m%d%H%M%S}"
    free = (wal.with_name(name + more) for more in ("", *(f"-{n}" for n in range(2, 1000))))
    return next(path for path in free if not path.exists())


def _keep_unread(wal: Path, warnings: list[str]) -> None:
    """Keep what DuckDB leaves unread at the end of a log: it takes it for a torn write and drops it."""
    unread = unread_log(wal)
    if unread:
        aside = _aside(wal)
        aside.write_bytes(unread)
        warnings.append(
            f"{wal} ends in {len(unread):,} bytes that are not whole, as a kill or damage leaves them; "
            f"kept as {aside}: what is lost with them is asked again"
        )


def unread_log(wal: Path) -> bytes:
    """The end of a log that is no whole entry. Each is its size, its checksum and its content."""
    if not wal.exists() or wal.stat().st_size == 0:
        return b""
    with wal.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as log:
        best = 0
        # The header's own length is not written anywhere; it ends in two bytes 0xFF.
        for begin in range(16, min(len(log), 128) + 1):
            if log[begin - 2 : begin] == b"\xff\xff":
                best = max(best, _last_whole(log, begin))
        return log[best:]


def _last_whole(log: mmap.mmap, begin: int) -> int:
    """Where the last whole entry ends, 0 if there is none from `begin` on."""
    end = begin
    while end + 16 <= len(log):
        size = int.from_bytes(log[end : end + 8], "little")
        if size == 0 or end + 16 + size > len(log):
            break
        end += 16 + size
    return end if end > begin or begin == len(log) else 0


def _patiently(connection: duckdb.DuckDBPyConnection, attach: str) -> None:
    """Attach a file that somebody may hold for a moment to read it, as the viewer does."""
    for again in (True, True, True, False):
        try:
            connection.execute(attach)
            return
        except duckdb.Error as error:
            if not again or not is_locked(error):
                raise
        time.sleep(_LOCK_PAUSE_S)


def is_locked(error: duckdb.Error) -> bool:
    """Whether a run holds the file, here or in another process. That a block is corrupt is another matter."""
    return any(words in str(error) for words in ("lock on file", "onflicting lock", "file handle conflict"))


def explain_open_error(path: Path, error: duckdb.Error) -> str:
    """One line for a file that cannot be opened."""
    text = str(error)
    if is_locked(error):
        return (
            f"{path}: held by another run: wait for it or stop it "
            "(sql and report answer meanwhile), or name another file with --db"
        )
    if any(words in text for words in _FULL):
        return f"{path}: cannot be written, the disk is full: make room and type the same command"
    if path.exists() and path.stat().st_size == 0:
        return f"{path}: an empty file: remove it and type the same command, or name another file with --db"
    if any(words in text for words in _DAMAGED):
        return (
            f"{path}: damaged ({_first_line(error)}): restore a copy, or save what can be read: "
            f"safemt doctor --db {shlex.quote(str(path))} --salvage NEW.duckdb"
        )
    if "not a valid DuckDB database" in text:
        return f"{path}: not a DuckDB file: name another one with --db"
    if "version" in text.lower():
        return f"{path}: written by another version of DuckDB ({_first_line(error)})"
    wal = path.with_name(path.name + ".wal")
    for needed in (path, wal, path.parent):
        if needed.exists() and not os.access(needed, os.W_OK):
            return f"{needed}: not writable: change its permissions, or name another file with --db"
    return f"{path}: {_first_line(error)}"


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
