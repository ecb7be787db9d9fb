"""Rows on the screen: a table, CSV or JSON. Text in them is untrusted."""

from __future__ import annotations

import csv
import json
from typing import IO, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from safemt_client.results.sanitize import inert, plain
from safemt_client.results.screen import open_console
from safemt_client.results.store.queries import Result

__all__ = ["print_result"]

_NARROWEST = 20
"""Columns that a value has at least."""


def print_result(result: Result, form: str, out: IO[str]) -> None:
    """Print rows as `table`, `csv` or `json`.

    In a table, control characters are shown as codes; one that is wider than the screen becomes a list of
    values. In CSV, text that a spreadsheet would take
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
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for column in result.columns:
            table.add_column(escape(plain(column)), min_width=min(len(plain(column)), 12))
        for row in result.rows:
            table.add_row(*("" if value is None else escape(plain(str(value))) for value in row))
        screen = open_console(out)
        if Measurement.get(screen, screen.options.update(max_width=10_000), table).minimum > screen.width:
            _records(result, screen)
        else:
            screen.print(table)
        screen.print(f"{len(result.rows)} row{'' if len(result.rows) == 1 else 's'}", highlight=False)


def _records(result: Result, screen: Console) -> None:
    """One line a value, for a table that is wider than the screen."""
    widest = max(len(plain(column)) for column in result.columns)
    for number, row in enumerate(result.rows, 1):
        screen.rule(f"row {number}", align="left")
        for column, value in zip(result.columns, row, strict=True):
            text = "" if value is None else plain(str(value))
            for at, line in enumerate(Text(text).wrap(screen, max(screen.width - widest - 2, _NARROWEST))):
                shown = f"{'' if at else plain(column):{widest}}  {line.plain}"
                screen.print(shown.rstrip(), markup=False, highlight=False, soft_wrap=True)


def _cell(value: Any) -> Any:
    return inert(value) if isinstance(value, str) else value
