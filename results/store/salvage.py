"""Copy what can still be read of a damaged store into a new one. The damaged file is only read."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from safemt_client import __version__
from safemt_client.providers.errors import InputError, StoreHeldError
from safemt_client.results.store.errors import explain_open_error, first_line, is_locked
from safemt_client.results.store.files import appear
from safemt_client.results.store.kept import prepare
from safemt_client.results.store.schema import TABLES

__all__ = ["Salvaged", "salvage"]

_CHUNK = 8192
_ALWAYS = {"schema_migrations", "runs", "dialogues", "turns"}
"""Tables that every store has."""


@dataclass(frozen=True, slots=True)
class Salvaged:
    """For one table: the rows it had, if that is known, and the rows that were saved."""

    table: str
    rows: int | None
    saved: int


def salvage(damaged: Path, into: Path) -> list[Salvaged]:
    """Copy every row of `damaged` that can be read into a new store `into`; without a row there is none.

    Raises:
        InputError: the file is held, cannot be opened or is not a store, or `into` cannot be made anew.
    """
    # DuckDB would take a log of that name for the new file's own.
    for path in (into, into.with_name(into.name + ".wal")):
        if path.exists() or path.is_symlink():
            raise InputError(f"{path}: already exists: name a new file with --salvage")
    if not damaged.is_file():
        raise InputError(f"{damaged}: no such store: name one with --db")
    try:
        # A folder of its own: whatever is made in it cannot be a file of the user's.
        with TemporaryDirectory(prefix=f".{into.name[:100]}.", dir=into.parent) as folder:
            made = Path(folder, "made.duckdb")
            found = _saved(damaged, made, Path(folder, "copy.duckdb"))
            if any(table.saved for table in found):
                appear(made, into)
            return found
    except OSError as error:
        raise InputError(
            f"{into}: cannot be made ({error.strerror or error}): name another file with --salvage"
        ) from None


def _saved(damaged: Path, made: Path, copy: Path) -> list[Salvaged]:
    """Fill the new store `made`; `copy` is where a copy without a log may be."""
    connection = duckdb.connect(":memory:")
    try:
        connection.execute("SET TimeZone = 'UTC'")
        _attach(connection, made, "fresh", "")
        connection.execute("USE fresh")
        prepare(connection, made, __version__, is_new=True)
        _attach(connection, _readable(damaged, copy), "damaged", ", READ_ONLY", damaged)
        _check_tables(connection, damaged)
        found = [_table(connection, table) for table in dict.fromkeys(TABLES.values())]
        connection.execute("DETACH damaged")
        connection.execute("CHECKPOINT fresh")
        return found
    except duckdb.Error as error:
        raise InputError(f"{damaged}: {first_line(error)}") from None
    finally:
        connection.close()


def _attach(
    connection: duckdb.DuckDBPyConnection, path: Path, name: str, options: str, called: Path | None = None
) -> None:
    quoted = str(path).replace("'", "''")
    try:
        connection.execute(f"ATTACH '{quoted}' AS {name} (TYPE duckdb, ROW_GROUP_SIZE 8192{options})")
    except duckdb.Error as error:
        raise InputError(
            f"{called or path}: cannot be opened even for reading: {first_line(error)}: restore a copy"
        ) from None


def _check_tables(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """See that the file is a store.

    Raises:
        InputError: it has not a store's tables.
    """
    try:
        found = connection.execute(
            "SELECT table_name FROM duckdb_tables() WHERE database_name = 'damaged'"
        ).fetchall()
    except duckdb.Error:
        return  # too damaged to say
    if not {name for (name,) in found} >= _ALWAYS:
        raise InputError(f"{path}: not a store of safemt_client: name another one with --db")


def _readable(damaged: Path, copy: Path) -> Path:
    """The file itself if it opens with its log; else a copy: an unreadable log makes it all unreadable."""
    probe = duckdb.connect(":memory:")
    quoted = str(damaged).replace("'", "''")
    try:
        probe.execute(f"ATTACH '{quoted}' AS probe (TYPE duckdb, READ_ONLY)")
        return damaged
    except duckdb.Error as error:
        if is_locked(error):
            raise StoreHeldError(explain_open_error(damaged, error)) from None
        shutil.copyfile(damaged, copy)
        return copy
    finally:
        probe.close()


def _table(connection: duckdb.DuckDBPyConnection, table: str) -> Salvaged:
    try:
        columns = [
            row[0]
            for row in connection.execute(
                "SELECT column_name FROM duckdb_columns() WHERE database_name = 'damaged' AND table_name = ? "
                "AND column_name IN (SELECT column_name FROM duckdb_columns() WHERE database_name = 'fresh' "
                "AND table_name = ?) ORDER BY column_index",
                [table, table],
            ).fetchall()
        ]
        if not columns:
            return Salvaged(table, 0, 0)
        counted = connection.execute(f"SELECT max(rowid) FROM damaged.{table}").fetchone()
    except duckdb.Error:
        return Salvaged(table, None, 0)
    most = -1 if counted is None or counted[0] is None else int(counted[0])
    names = ", ".join(f'"{column}"' for column in columns)
    saved = 0
    for low, high in _halves(connection, table, names, 0, most):
        done = connection.execute(
            f"INSERT INTO fresh.{table} ({names}) SELECT {names} FROM damaged.{table} "
            f"WHERE rowid BETWEEN {low} AND {high}"
        ).fetchone()
        saved += int(done[0]) if done else 0
    return Salvaged(table, most + 1, saved)


def _halves(
    connection: duckdb.DuckDBPyConnection, table: str, names: str, low: int, high: int
) -> Iterator[tuple[int, int]]:
    """The ranges of row numbers that can be read: chunk by chunk, and in a broken chunk half by half."""
    for begin in range(low, high + 1, _CHUNK):
        waiting = [(begin, min(begin + _CHUNK - 1, high))]
        while waiting:
            one, two = waiting.pop()
            try:
                connection.execute(
                    f"SELECT {names} FROM damaged.{table} WHERE rowid BETWEEN {one} AND {two}"
                ).fetchall()
                yield one, two
            except duckdb.Error:
                if one < two:
                    middle = (one + two) // 2
                    waiting += [(middle + 1, two), (one, middle)]
