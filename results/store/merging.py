"""Several stores as one new one. The stores themselves are only read."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from safemt_client.providers.errors import InputError, StoreHeldError
from safemt_client.results.store.batches import ROW_GROUP
from safemt_client.results.store.errors import explain_open_error, first_line, is_locked
from safemt_client.results.store.files import appear
from safemt_client.results.store.inbox import take, waiting
from safemt_client.results.store.migrations import MIGRATIONS, schema_version
from safemt_client.results.store.schema import TABLES
from safemt_client.results.store.store import Store

__all__ = ["Merged", "merge"]


@dataclass(frozen=True, slots=True)
class Merged:
    """What of one store went into the new one: its `rows`, and those `added` that no store before it had.

    `answered_otherwise` counts the requests that a store before it has too, with another reply.
    """

    path: Path
    rows: int
    added: int
    answered_otherwise: int = 0


def merge(into: Path, stores: Sequence[Path]) -> list[Merged]:
    """Make a new store `into` with all that is in these, row by row: what several have alike is in it once.

    Where two of them have a reply to the same request, both are kept, each with its verdicts and its cost.

    Raises:
        InputError: a store is missing, held by a run, or named twice, or `into` cannot be made anew.
    """
    for path in (into, into.with_name(into.name + ".wal")):
        if path.exists() or path.is_symlink():
            raise InputError(f"{path}: already exists: name a new file to merge into")
    seen: list[Path] = []
    for path in stores:
        if not path.is_file():
            raise InputError(f"{path}: no such store: name DuckDB files of safemt_client")
        if any(path.samefile(other) for other in seen):
            raise InputError(f"{path}: named twice: leave one out")
        seen.append(path)
    try:
        # A folder of its own: whatever is made in it cannot be a file of the user's.
        with TemporaryDirectory(prefix=f".{into.name[:100]}.", dir=into.parent) as folder:
            made = Path(folder, "made.duckdb")
            Store.open(made, "nothing").close()
            found = [_taken_in(made, path, Path(folder)) for path in stores]
            with Store.open(made, command="merge") as store:
                for path in stores:
                    take(store, waiting(path))
            appear(made, into)
            return found
    except OSError as error:
        raise InputError(f"{into}: cannot be made ({error.strerror or error}): name another file") from None


def _taken_in(made: Path, path: Path, folder: Path) -> Merged:
    """Append to the new store the rows of another one that it does not have.

    What it has is known by hashes that are kept beside it: the rows of each store are hashed once.
    """
    with duckdb.connect(":memory:") as connection:
        connection.execute("SET TimeZone = 'UTC'")
        _attach(connection, made, "made", f", ROW_GROUP_SIZE {ROW_GROUP}")
        _attach(connection, folder / "seen.duckdb", "seen", "")
        _attach(connection, path, "given", ", READ_ONLY")
        connection.execute("USE given")
        version = schema_version(connection)
        if version is None or version == 0:
            raise InputError(f"{path}: not a store of safemt_client: leave it out")
        if version > len(MIGRATIONS):
            raise InputError(f"{path}: is of a newer version of safemt_client: update it first")
        if version < len(MIGRATIONS) or _lacks_columns(connection):
            connection.execute("USE made")
            connection.execute("DETACH given")
            _attach(connection, _migrated(path, folder / "copy"), "given", ", READ_ONLY")
        connection.execute("USE made")
        try:
            for table in dict.fromkeys(TABLES.values()):
                connection.execute(f"CREATE TABLE IF NOT EXISTS seen.{table} (content BLOB, number BIGINT)")
            connection.execute("BEGIN")
            otherwise = _answered_otherwise(connection)
            counts = [_append(connection, table) for table in dict.fromkeys(TABLES.values())]
            connection.execute("COMMIT")
            connection.execute("CHECKPOINT made")
            # DuckDB writes to one file in a transaction.
            for table in dict.fromkeys(TABLES.values()):
                connection.execute(f"INSERT INTO seen.{table} SELECT content, number FROM temp.new_{table}")
        except duckdb.Error as error:
            raise InputError(f"{path}: cannot be read: {first_line(error)}") from None
    return Merged(path, sum(rows for rows, _ in counts), sum(added for _, added in counts), otherwise)


def _attach(connection: duckdb.DuckDBPyConnection, path: Path, name: str, options: str) -> None:
    quoted = str(path).replace("'", "''")
    try:
        connection.execute(f"ATTACH '{quoted}' AS {name} (TYPE duckdb{options})")
    except duckdb.Error as error:
        kind = StoreHeldError if is_locked(error) else InputError
        raise kind(explain_open_error(path, error)) from None


_COLUMNS = "SELECT table_name, column_name FROM duckdb_columns() WHERE database_name = '{}'"


def _lacks_columns(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the other store lacks columns of this version: they have no version of their own."""
    made, given = (set(connection.execute(_COLUMNS.format(name)).fetchall()) for name in ("made", "given"))
    tables = set(TABLES.values())
    return bool({(table, column) for table, column in made if table in tables} - given)


def _migrated(path: Path, copies: Path) -> Path:
    """A copy of a store of an earlier version, brought to this one."""
    copies.mkdir(exist_ok=True)
    copy = copies / path.name
    wal = path.with_name(path.name + ".wal")
    # The log first: to close the file itself gives up the lock that keeps a run from beginning meanwhile.
    if wal.exists():
        shutil.copyfile(wal, copy.with_name(copy.name + ".wal"))
    shutil.copyfile(path, copy)
    Store.open(copy, "store", command="merge").close()
    return copy


def _answered_otherwise(connection: duckdb.DuckDBPyConnection) -> int:
    """The requests that both stores have an answer to, of which the one to come is not in the new store."""
    answers = "(SELECT DISTINCT request_hash, text FROM {}.turns WHERE outcome = 'answered')"
    found = connection.execute(
        f"SELECT count(DISTINCT request_hash) FROM {answers.format('given')} g "
        "SEMI JOIN made.turns m ON m.request_hash = g.request_hash AND m.outcome = 'answered' "
        "ANTI JOIN made.turns s ON s.request_hash = g.request_hash AND s.outcome = 'answered' "
        "AND s.text IS NOT DISTINCT FROM g.text"
    ).fetchone()
    return int(found[0]) if found else 0


def _append(connection: duckdb.DuckDBPyConnection, table: str) -> tuple[int, int]:
    """Append what the new store's table lacks, in its order; how many rows there are, and how many it took.

    A row is known by the hash of its content. What a store has several times stays so.
    """
    columns = [
        column
        for (column,) in connection.execute(
            "SELECT column_name FROM duckdb_columns() WHERE database_name = 'made' AND table_name = ? "
            "ORDER BY column_index",
            [table],
        ).fetchall()
    ]
    names = ", ".join(f'"{column}"' for column in columns)
    packed = ", ".join(f'"{column}" := "{column}"' for column in columns)
    hashed = f"unhex(sha256(to_json(struct_pack({packed}))::VARCHAR))"

    connection.execute(
        f"CREATE TEMP TABLE new_{table} AS SELECT * FROM ("
        "SELECT place, content, row_number() OVER (PARTITION BY content ORDER BY place) AS number "
        f"FROM (SELECT rowid AS place, {hashed} AS content FROM given.{table})) "
        f"ANTI JOIN seen.{table} USING (content, number)"
    )
    added = connection.execute(
        f"INSERT INTO made.{table} ({names}) SELECT {names} FROM given.{table} g "
        f"WHERE g.rowid IN (SELECT place FROM temp.new_{table}) ORDER BY g.rowid"
    ).fetchone()
    rows = connection.execute(f"SELECT count(*) FROM given.{table}").fetchone()
    return int(rows[0]) if rows else 0, int(added[0]) if added else 0
