"""A report on the terminal: of each section what is brief, in an order that puts the figures first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from safemt_client.results.report.build import document
from safemt_client.results.report.document import Block, Code, Column, Document, Figure, Notes, Table
from safemt_client.results.report.telling import told
from safemt_client.results.sanitize import plain
from safemt_client.results.scores.collect import as_dict, latest_run
from safemt_client.results.scores.indices import rounds_of
from safemt_client.results.stats.safety_index import ROUNDS
from safemt_client.results.store.reader import Queryable

__all__ = ["as_dict", "latest_run", "report", "screen", "show"]

_ORDER = (
    *("progress", "asr", "index", "trend", "differences", "moderators", "turn_labels", "scenarios"),
    *("refusals", "twins", "judges"),
)
"""The sections that come first; the others follow in the order of the report."""

_EDGES = 2
"""Blanks left and right of a table."""
_NARROWEST = 6
"""Columns of text wrap where the terminal is narrow, but not to less than this."""


def report(reader: Queryable, run_id: str | None, console: Console, si_rounds: str | None = None) -> None:
    """Print ASR by length, scenario and method, the Safety Index, outcomes and spend of a run."""
    with told() as say:
        found = as_dict(reader, run_id, rounds_of(si_rounds or ROUNDS), whole=False, say=say)
    screen(document(found), console)


def screen(document: Document, console: Console) -> None:
    """Print the brief form of a report."""
    show([Notes(document.opening)], console)
    rank = {key: place for place, key in enumerate(_ORDER)}
    for section in sorted(document.sections, key=lambda section: rank.get(section.key, len(rank))):
        show(section.brief, console)


def show(blocks: Iterable[Block], console: Console) -> None:
    """Print blocks as lines and tables; what a model or a user wrote cannot act on the screen."""
    for block in blocks:
        if isinstance(block, Notes):
            for line in block.lines:
                mark = (("warning: ", "yellow"),) if block.careful else ()
                console.print(Text.assemble(*mark, plain(line)), soft_wrap=True)
        elif isinstance(block, Code):
            console.print(Text(block.text), soft_wrap=True)
        else:
            _table(block.table if isinstance(block, Figure) else block, console)


def _table(table: Table, console: Console) -> None:
    console.print(_whole(table, console.width) or _wrapped(table))
    # An asterisk is explained only if there is one.
    if table.note and (not table.note.startswith("*") or any(c.endswith("*") for r in table.rows for c in r)):
        console.print(Text(table.note), soft_wrap=True)


def _whole(table: Table, width: int) -> Grid | None:
    """The table without a cell that wraps, as narrow as need be; None if it is too wide all the same.

    Its cells are put side by side here: rich lays out each by itself, and took half of the time of a report.
    """
    cells = [[_cell(row[place]) for row in table.rows] for place in range(len(table.columns))]
    for narrow in (False, True):
        heads = [_head(column, narrow=narrow).split("\n") for column in table.columns]
        height = max(map(len, heads))
        columns = [
            _aligned([*[""] * (height - len(head)), *head, *below], column)
            for column, head, below in zip(table.columns, heads, cells, strict=True)
        ]
        lines = [("  " if narrow else "   ").join(line) for line in zip(*columns, strict=True)]
        if cell_len(lines[0]) + _EDGES <= width:
            grid = _grid(table)
            grid.add_column(Text("\n".join(lines[:height]), style="bold"), no_wrap=True)
            if table.rows:
                grid.add_row(Text("\n".join(lines[height:])))
            return grid
    return None


def _aligned(texts: Sequence[str], column: Column) -> list[str]:
    """The texts of a column, each as wide as the widest."""
    widths = [cell_len(text) for text in texts]
    widest = max(*widths, 0 if column.numeric else _NARROWEST)
    fills = [" " * (widest - width) for width in widths]
    both = zip(texts, fills, strict=True)
    return [fill + text for text, fill in both] if column.numeric else [text + fill for text, fill in both]


def _wrapped(table: Table) -> Grid:
    """The table with texts that wrap, and no figure that does."""
    grid = _grid(table)
    for column in table.columns:
        grid.add_column(
            Text(_head(column, narrow=True), style="bold"),
            justify="right" if column.numeric else "left",
            no_wrap=column.numeric,
            min_width=None if column.numeric else _NARROWEST,
            overflow="ellipsis" if column.numeric else "fold",
        )
    for row in table.rows:
        grid.add_row(*(Text(_cell(cell)) for cell in row))
    return grid


def _grid(table: Table) -> Grid:
    return Grid(
        title=Text(plain(table.caption), style="italic"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )


def _head(column: Column, *, narrow: bool) -> str:
    """A heading in small letters, abbreviations as they are; on several lines where a figure is narrow."""
    name = plain(column.name)
    shown = name[:1].lower() + name[1:] if name[1:2].islower() else name
    return shown.replace("/", "/\n").replace(" (", "\n(") if narrow and column.numeric else shown


def _cell(text: str) -> str:
    """An interval without signs is set with a dash."""
    low, to, high = plain(text).partition(" to ")
    numbers = to and all(part.replace(".", "", 1).isdigit() for part in (low, high.removesuffix("*")))
    return f"{low} - {high}" if numbers else plain(text)
