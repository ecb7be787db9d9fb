"""Facts read as a store: its views stand on what stands for its tables, so no figure has a second rule."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb

from safemt_client import __version__
from safemt_client.providers.errors import InputError
from safemt_client.results.cache import cache_folder
from safemt_client.results.store.facts import MANIFESTS, ROWS, FactFile, Manifest, shadows
from safemt_client.results.store.kept import prepare
from safemt_client.results.store.places import Place, address_of, open_place

__all__ = ["Facts", "is_facts", "open_facts", "signature"]

_AT_ONCE = 16
"""Files that are fetched from a bucket at a time."""
_NOTHING = {"VARCHAR": "''", "BIGINT": "1", "DOUBLE": "0", "TIMESTAMP": "'1970-01-01'"}
_LABELLED = (
    "run_id VARCHAR, judge_key VARCHAR, place BIGINT, target_key VARCHAR, length BIGINT, item_id VARCHAR, "
    "human VARCHAR, judge VARCHAR, weight DOUBLE, by_chance BOOLEAN"
)
_SMALL_ROWS = 200_000
"""Of fewer rows, one thread: to start others takes more than they save."""


@dataclass(frozen=True)
class Facts:
    """Facts in a folder of this machine, be it the copy of a bucket's; `path` is what the user calls it."""

    path: Path
    folder: Path
    manifests: list[Manifest]

    def connect(self, run_id: str | None = None) -> duckdb.DuckDBPyConnection:
        """A connection that can only read them, all or those of one run alone.

        Raises:
            InputError: they cannot be read.
        """
        some = [one for one in self.manifests if run_id in (None, one.run_id)]
        return _connection(self.path, self.folder, some)

    def calibration(self, run_id: str) -> dict[str, Any] | None:
        """The latest calibration of a run's judge, as it was when the run was exported; None without one."""
        found = next((one.calibration for one in self.manifests if one.run_id == run_id), None)
        if found is None:
            return None
        parts = [_dated(row) for row in found["by_category"]]
        return _dated(found) | {"by_category": parts}


def _dated(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"created_at": datetime.fromisoformat(row["created_at"])}


def is_facts(path: Path) -> bool:
    """Whether a path that stands where a store's is expected is a folder or the address of one."""
    return address_of(path) is not None or path.is_dir()


def open_facts(path: Path) -> Facts:
    """Open the facts in a folder, or in a bucket, of which what is new is copied to the user's cache.

    Raises:
        InputError: there are none, they cannot be read, or they are of a newer version.
    """
    # Not for those who read stores.
    from concurrent.futures import ThreadPoolExecutor

    place = open_place(path)
    names = [name for name in place.names(MANIFESTS) if name.endswith(".json") and "/." not in name]
    if not names:
        raise InputError(
            f"{place.shown}: has no facts: 'export --format facts' did not write it, or was not finished"
        )
    with ThreadPoolExecutor(1 if place.is_local else _AT_ONCE) as pool:
        texts = list(pool.map(place.read, names))
    manifests = [
        Manifest.read(text, f"{place.shown}/{name}") for text, name in zip(texts, names, strict=True)
    ]
    folder = Path(place.root) if place.is_local else _fetched(place, manifests)
    return Facts(path, folder, manifests)


def signature(path: Path) -> tuple[object, ...]:
    """Changes with the facts in a folder. Of a bucket it does not: to ask it each second costs money."""
    if address_of(path) is not None:
        return ("bucket",)
    try:
        found = [(one.name, one.stat().st_mtime_ns) for one in (path / MANIFESTS).iterdir()]
    except OSError:
        return ()
    return tuple(sorted(found))


def _fetched(place: Place, manifests: list[Manifest]) -> Path:
    """The copy of a bucket's facts in the cache, with what it lacked and without what is gone."""
    from concurrent.futures import ThreadPoolExecutor

    key = hashlib.sha256(place.address.encode())
    try:
        folder = cache_folder() / "facts" / key.hexdigest()[:16]
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        wanted = {one.path: one for manifest in manifests for one in manifest.files}
        for path in folder.rglob("*.parquet"):
            if str(path.relative_to(folder).as_posix()) not in wanted:
                path.unlink(missing_ok=True)

        def fetch(one: FactFile) -> None:
            path = folder / one.path
            if not (path.is_file() and path.stat().st_size == one.size):
                place.copy_here(one.path, path)

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(fetch, wanted.values()))
    except (OSError, RuntimeError) as error:
        raise InputError(f"{place.shown}: cannot be copied to the cache: {error}") from None
    return folder


def _connection(path: Path, folder: Path, manifests: list[Manifest]) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:")
    try:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("ATTACH ':memory:' AS store")
        connection.execute("USE store")
        prepare(connection, path, __version__, is_new=True)
        for name in ROWS:
            _fill(connection, name, [row for one in manifests for row in one.rows.get(name, [])])
        connection.execute(f"CREATE TABLE labelled_replies ({_LABELLED})")
        # Of a table, the files by the columns that they have.
        files: dict[str, dict[str, list[FactFile]]] = defaultdict(lambda: defaultdict(list))
        for manifest in manifests:
            for one in manifest.files:
                files[one.table][manifest.columns[one.table]].append(one)
        sources = {table: _source(folder, list(alike.values())) for table, alike in files.items()}
        known = {table: set(" ".join(alike).split()) for table, alike in files.items()}
        for name, query in shadows(sources, known).items():
            _stand(connection, name, query)
        if sum(one.rows for manifest in manifests for one in manifest.files) < _SMALL_ROWS:
            connection.execute("SET threads = 1")
        connection.execute(f"SET allowed_directories = [{_quoted(str(folder))}]")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
    except duckdb.Error as error:
        connection.close()
        raise InputError(f"{path}: cannot be read as facts: {str(error).splitlines()[0]}") from None
    return connection


def _source(folder: Path, several: list[list[FactFile]]) -> str:
    """What reads these files; those of one list have the same columns."""
    read = []
    for files in several:
        listed = ", ".join(_quoted(str(folder / one.path)) for one in files)
        read.append(f"read_parquet([{listed}], hive_partitioning = true, hive_types_autocast = false)")
    return read[0] if len(read) == 1 else f"({' UNION ALL BY NAME '.join(f'FROM {one}' for one in read)})"


def _fill(connection: duckdb.DuckDBPyConnection, name: str, rows: list[dict[str, Any]]) -> None:
    """Put rows of the manifests into a table, or have a table in place of a view."""
    import pyarrow as pa

    columns = _columns(connection, name)
    kind = _kind(connection, name)
    given = pa.table({c: pa.array([row.get(c) for row in rows]) for c, _ in columns})
    connection.register("given", given)
    picked = ", ".join(f'"{c}"::{kind_} AS "{c}"' for c, kind_ in columns)
    try:
        if kind == "VIEW":
            connection.execute(f'DROP VIEW "{name}"')
            connection.execute(f'CREATE TABLE "{name}" AS SELECT {picked} FROM given')
        elif rows:
            connection.execute(f'INSERT INTO "{name}" BY NAME SELECT {picked} FROM given')
    finally:
        connection.unregister("given")


def _stand(connection: duckdb.DuckDBPyConnection, name: str, query: str) -> None:
    """Have a view of this query in place of a table or view, with its columns.

    Of one that it lacks there is NULL, or what says nothing where NULL may not be.
    """
    needed = {row[0] for row in connection.execute(f'DESCRIBE "{name}"').fetchall() if row[2] == "NO"}
    columns = _columns(connection, name)
    found = {row[0] for row in connection.execute(f"DESCRIBE {query}").fetchall()}
    picked = ", ".join(
        f'"{column}"::{kind} AS "{column}"'
        if column in found
        else f'{_NOTHING.get(kind, "NULL") if column in needed else "NULL"}::{kind} AS "{column}"'
        for column, kind in columns
    )
    connection.execute(f'DROP {_kind(connection, name)} "{name}"')
    connection.execute(f'CREATE VIEW "{name}" AS SELECT {picked} FROM ({query})')


def _columns(connection: duckdb.DuckDBPyConnection, name: str) -> list[tuple[str, str]]:
    return [(row[0], row[1]) for row in connection.execute(f'DESCRIBE "{name}"').fetchall()]


def _kind(connection: duckdb.DuckDBPyConnection, name: str) -> str:
    found = connection.execute(
        "SELECT 1 FROM duckdb_tables() WHERE table_name = ? AND database_name = current_database()", [name]
    ).fetchall()
    return "TABLE" if found else "VIEW"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
