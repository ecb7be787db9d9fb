"""Rows of the store as Arrow tables: from rows, or from columns of many at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from datetime import UTC
from functools import cache
from typing import Any, get_type_hints

import duckdb
import pyarrow as pa

from safemt_client.results.store.columns import ARROW, column
from safemt_client.results.store.rows import Row

__all__ = ["ROW_GROUP", "arrow_rows", "batch_of", "hold_little", "kinds_of", "rows_of", "told"]

ROW_GROUP = 8192
"""Rows that DuckDB compresses and writes at once."""
_THREADS = 2
_HELD = 48 * 2**20
"""Bytes that DuckDB needs beside the groups that it works on."""


def hold_little(connection: duckdb.DuckDBPyConnection, group_bytes: int) -> None:
    """Have DuckDB keep little of what it writes: by itself it drops nothing while memory is free.

    `group_bytes` is the most that `ROW_GROUP` rows have. Each thread has a group as it came, and compressed.
    """
    most = _HELD + 2 * _THREADS * group_bytes
    connection.execute(f"SET threads = {_THREADS}; SET memory_limit = '{most}B'")


def told(batches: Iterable[pa.RecordBatch], wrong: list[BaseException]) -> Iterator[pa.RecordBatch]:
    """The batches; what kept them from being made is put into `wrong`: DuckDB says it in other words."""
    try:
        yield from batches
    except BaseException as error:
        wrong.append(error)
        raise


@cache
def kinds_of(row: type) -> dict[str, str]:
    """The fields of a kind of row, and the names of their types in Python."""
    found = {}
    hints = get_type_hints(row)
    for field in fields(row):
        options = getattr(hints[field.name], "__args__", (hints[field.name],))
        found[field.name] = next(option.__name__ for option in options if option is not type(None))
    return found


def arrow_rows(row: type, rows: Sequence[Row]) -> pa.Table:
    """Rows of one kind."""
    kinds = kinds_of(row)
    columns = [column(kind, [getattr(row, name) for row in rows]) for name, kind in kinds.items()]
    return pa.Table.from_arrays(columns, names=list(kinds))


def rows_of(row: type, table: pa.Table) -> list[Any]:
    """The rows of one kind that a table of `arrow_rows` has."""
    times = [name for name, kind in kinds_of(row).items() if kind == "datetime"]
    found = []
    for values in table.to_pylist():
        for name in times:
            values[name] = values[name] and values[name].replace(tzinfo=UTC)
        found.append(row(**values))
    return found


def batch_of(row: type, count: int, columns: dict[str, Any]) -> pa.RecordBatch:
    """So many rows of one kind. A column is an array of Arrow, a list, or the value of all of them.

    What is not among the columns is NULL.
    """
    kinds = kinds_of(row)
    made = []
    for name, kind in kinds.items():
        value = columns.get(name)
        if isinstance(value, list):
            value = column(kind, value)
        elif not isinstance(value, pa.Array):
            value = (
                pa.nulls(count, ARROW[kind]) if value is None else pa.repeat(column(kind, [value])[0], count)
            )
        made.append(value)
    if unknown := columns.keys() - kinds.keys():
        raise TypeError(f"{row.__name__} has no {', '.join(sorted(unknown))}")
    return pa.RecordBatch.from_arrays(made, names=list(kinds))
