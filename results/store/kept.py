"""New tables and views: copied from an empty store that is kept in the user's cache.

That takes a fifth of the time: made one by one, each comment is a statement that copies its whole view.
Whatever is wrong with the kept store or its folder, tables and views are made without it.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path

import duckdb

from safemt_client.results.cache import cache_folder
from safemt_client.results.store.migrations import migrate
from safemt_client.results.store.schema import TABLES, statements
from safemt_client.results.store.views import create_views, is_current, mark

__all__ = ["prepare"]


def prepare(
    connection: duckdb.DuckDBPyConnection, path: object, program_version: str, *, is_new: bool
) -> None:
    """Bring the current database, without anything in it if it `is_new`, to this program's tables and views.

    `path` is what errors name it by.

    Raises:
        InputError: the file belongs to another program or to a newer version of this one.
    """
    if not (is_new and _copied(connection, path, program_version)):
        migrate(connection, path, program_version, is_empty=is_new)
    # Made again at every open they would take a tenth of a megabyte of the disk each time.
    if not is_current(connection):
        create_views(connection)
        if is_new:
            _keep(connection)


def _copied(connection: duckdb.DuckDBPyConnection, path: object, program_version: str) -> bool:
    """Whether tables and views were made by copying them; otherwise nothing was made."""

    def copy(connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute(f"COPY FROM DATABASE kept TO {_current(connection)} (SCHEMA)")

    try:
        file = _file()
        if not (_is_ours(file) and _is_ours(file.parent)):
            return False
        connection.execute(f"ATTACH {_quoted(file)} AS kept (TYPE duckdb, READ_ONLY)")
    except (OSError, RuntimeError, duckdb.Error):
        return False
    try:
        migrate(connection, path, program_version, make=copy, is_empty=True)
    except duckdb.Error:
        with suppress(duckdb.Error):
            connection.execute("ROLLBACK")
        return False
    finally:
        connection.execute("DETACH kept")
    return True


def _keep(connection: duckdb.DuckDBPyConnection) -> None:
    """Keep the tables and views of the current database for the next one, in place of other versions'."""
    with suppress(OSError, RuntimeError, duckdb.Error):
        file = _file()
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_ours(file.parent):
            return
        # Several programs may keep the same one.
        with tempfile.TemporaryDirectory(dir=file.parent) as folder:
            made = Path(folder) / file.name
            connection.execute(f"ATTACH {_quoted(made)} AS kept (TYPE duckdb)")
            try:
                connection.execute(f"COPY FROM DATABASE {_current(connection)} TO kept (SCHEMA)")
                connection.execute("CHECKPOINT kept")
            finally:
                connection.execute("DETACH kept")
            made.chmod(0o600)
            for other in file.parent.glob("empty-*.duckdb"):
                other.unlink(missing_ok=True)
            made.replace(file)


def _file() -> Path:
    """Where the empty store is kept: each version of DuckDB, tables and views has a name of its own."""
    content = f"{duckdb.__version__} {statements(*TABLES)} {mark()}"
    return cache_folder() / "store" / f"empty-{hashlib.sha256(content.encode()).hexdigest()[:16]}.duckdb"


def _is_ours(path: Path) -> bool:
    """Whether it is there, and is this user's, as far as the system knows users."""
    return path.exists() and (not hasattr(os, "geteuid") or path.stat().st_uid == os.geteuid())


def _current(connection: duckdb.DuckDBPyConnection) -> str:
    found = connection.execute("SELECT current_database()").fetchone()
    assert found is not None
    return '"' + str(found[0]).replace('"', '""') + '"'


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
