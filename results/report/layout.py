"""Tables as lines of a terminal. Rich lays out each cell by itself: it took half of the time of a report."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import zip_longest

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from safemt_client.results.report.document import Column, Table
from safemt_client.results.sanitize import plain

__all__ = ["laid_out"]

_EDGE = " "
"""Left of a table, and room for it right of it."""
_NARROWEST = 6
"""Columns of text wrap where the terminal is narrow, but not to less than this."""


def laid_out(table: Table, console: Console) -> Text:
    """A table, each column as wide as its widest cell; to be printed with `soft_wrap`.

    Where the terminal is too narrow for that, headings of figures take several lines, and then texts wrap.
    Figures do not: where they alone are too wide, lines are longer than the terminal.
    """
    rows = [[_cell(text) for text in row] for row in table.rows]
    columns = list(zip(*rows, strict=True)) or [()] * len(table.columns)
    for narrow in (False, True):
        gap = "  " if narrow else "   "
        heads = [_head(column, narrow=narrow) for column in table.columns]
        widths = [
            max([0 if column.numeric else _NARROWEST, *map(cell_len, (*head, *cells))])
            for column, head, cells in zip(table.columns, heads, columns, strict=True)
        ]
        excess = 2 * len(_EDGE) + sum(widths) + len(gap) * (len(widths) - 1) - console.width
        if excess <= 0:
            break
    else:
        _shrink(widths, table.columns, excess)

    @cache
    def wrapped(text: str, width: int) -> list[str]:
        if cell_len(text) <= width:
            return [text]
        return [line.plain.rstrip() for line in Text(text).wrap(console, width, overflow="fold")]

    def line(parts: Sequence[str]) -> str:
        return (_EDGE + gap.join(map(_aligned, parts, widths, table.columns))).rstrip()

    above = [
        [part for text in head for part in wrapped(text, width)]
        for head, width in zip(heads, widths, strict=True)
    ]
    height = max(map(len, above))
    head = [line(parts) for parts in zip(*([""] * (height - len(one)) + one for one in above), strict=True)]
    body = [line(parts) for row in rows for parts in zip_longest(*map(wrapped, row, widths), fillvalue="")]
    rule = _EDGE + "─" * (sum(widths) + len(gap) * (len(widths) - 1))
    caption = Text(plain(table.caption), style="italic").wrap(console, len(rule) + len(_EDGE))
    return Text("\n").join(
        [*caption, Text(), Text("\n".join(head), style="bold"), Text("\n".join([rule, *body, ""]))]
    )


def _shrink(widths: list[int], columns: Sequence[Column], excess: int) -> None:
    """Take the excess from columns of text, always from the widest; nothing if that is not enough."""
    texts = [place for place, column in enumerate(columns) if not column.numeric]
    spare = sum(widths[place] - _NARROWEST for place in texts)
    # The room right of a table may go.
    if excess <= spare + len(_EDGE):
        for _ in range(min(excess, spare)):
            widths[max(texts, key=widths.__getitem__)] -= 1


def _aligned(text: str, width: int, column: Column) -> str:
    fill = " " * (width - cell_len(text))
    return fill + text if column.numeric else text + fill


def _head(column: Column, *, narrow: bool) -> list[str]:
    """Lines of a heading, in small letters but for abbreviations."""
    name = plain(column.name)
    shown = name[:1].lower() + name[1:] if name[1:2].islower() else name
    if narrow and column.numeric:
        shown = shown.replace("/", "/\n").replace(" (", "\n(")
    return shown.split("\n")


def _cell(text: str) -> str:
    """An interval without signs is set with a dash."""
    low, to, high = plain(text).partition(" to ")
    numbers = to and all(part.replace(".", "", 1).isdigit() for part in (low, high.removesuffix("*")))
    return f"{low} - {high}" if numbers else plain(text)
