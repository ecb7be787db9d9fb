"""With how many threads DuckDB works: the one that asks while a store is small, and more once it has grown.

Each small statement wakes the others, which look for work for a while and find none.
"""

from __future__ import annotations

from pathlib import Path

import duckdb

__all__ = ["is_small", "lock_all_but_threads", "use_all", "use_one", "works_alone"]

_SMALL_BYTES = 2**26


def is_small(path: Path) -> bool:
    """Whether one thread does for the store at `path`, which need not be there yet."""
    try:
        return path.stat().st_size < _SMALL_BYTES
    except OSError:
        return True


def use_one(connection: duckdb.DuckDBPyConnection) -> None:
    """Work with the thread that asks alone."""
    connection.execute("SET threads = 1")


def works_alone(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the thread that asks works alone."""
    return connection.execute("SELECT current_setting('threads')").fetchall() == [(1,)]


def use_all(connection: duckdb.DuckDBPyConnection) -> None:
    """Work with a thread for each core."""
    connection.execute("RESET threads")


def lock_all_but_threads(connection: duckdb.DuckDBPyConnection) -> None:
    """Let no statement change a setting any more, but for `use_all`."""
    connection.execute("SET allowed_configs = ['threads']")
    connection.execute("SET lock_configuration = true")
