"""Rows as a file: CSV for reading, with formulas made inert, or Parquet with exactly what is stored."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from safemt_client.results.sanitize import coded, inert

__all__ = ["FORMS", "as_csv", "as_parquet", "written"]

FORMS = {"csv": "text/csv; charset=utf-8", "parquet": "application/vnd.apache.parquet"}


def written(form: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    """The rows in one of `FORMS`."""
    return as_csv(columns, rows) if form == "csv" else as_parquet(columns, rows)


def as_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """CSV in UTF-8: control characters as codes, and an apostrophe before what looks like a formula."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([_cell(name) for name in columns])
    writer.writerows([[_cell(value) for value in row] for row in rows])
    # A lone surrogate cannot be encoded as UTF-8.
    return out.getvalue().encode("utf-8", "backslashreplace")


def as_parquet(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    """Parquet; a column whose values are of several kinds becomes text."""
    arrays = [_array([row[n] for row in rows]) for n in range(len(columns))]
    out = io.BytesIO()
    pq.write_table(pa.table(arrays, names=_distinct(columns)), out)
    return out.getvalue()


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    return inert(coded(str(value)))


def _array(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError, TypeError, ValueError):
        return pa.array(
            [
                None if value is None else str(value).encode("utf-8", "backslashreplace").decode("utf-8")
                for value in values
            ]
        )


def _distinct(columns: Sequence[str]) -> list[str]:
    """Each name once, as readers of Parquet require."""
    found: list[str] = []
    for name in columns:
        number, free = 1, name
        while free in found:
            number += 1
            free = f"{name}_{number}"
        found.append(free)
    return found
