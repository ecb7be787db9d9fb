"""Rows on the screen: a table, CSV or JSON. Text in them is untrusted."""

from __future__ import annotations

import csv
import json
from typing import IO, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from safemt_client.results.store import Result
from safemt_client.results.text import plain

__all__ = ["print_result"]

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def print_result(result: Result, form: str, out: IO[str]) -> None:
    """Print rows as `table`, `csv` or `json`.

    In a table, control characters are shown as codes. In CSV, text that a spreadsheet would take
    for a formula gets a leading apostrophe; in JSON nothing is changed.
    """
    if form == "json":
        rows = [dict(zip(result.columns, row, strict=True)) for row in result.rows]
        json.dump(rows, out, indent=2, default=str)
        out.write("\n")
    elif form == "csv":
        writer = csv.writer(out)
        writer.writerow(result.columns)
        writer.writerows([[_cell(value) for value in row] for row in result.rows])
    else:
        table = Table()
        for column in result.columns:
            table.add_column(escape(plain(column)))
        for row in result.rows:
            table.add_row(*("" if value is None else escape(plain(str(value))) for value in row))
        console = Console(file=out)
        console.print(table)
        console.print(f"{len(result.rows)} rows", highlight=False)


def _cell(value: Any) -> Any:
    return "'" + value if isinstance(value, str) and value.startswith(_FORMULA) else value
