"""Tables as lines of a terminal. Rich lays out each cell by itself: it took half of the time of a report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import zip_longest
from string import ascii_uppercase

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from safemt_client.results.report.document import Column, Table
from safemt_client.results.sanitize import plain

__all__ = ["Letters", "laid_out"]

_EDGE = " "
"""Left of a table, and room for it right of it."""
_INDENT = "  "
"""Of rows below what they share."""
_NARROWEST = 6
"""Columns of text wrap where the terminal is narrow, but not to less than this."""
_LONG = 24
"""Names longer than this are replaced by letters where nothing else helps."""
_GAPS = (3, 2, 1)
"""Columns between columns: as far as they go, the fewer the narrower; less than the first is narrow."""
_DEEPEST = 2
_READABLE = 80
"""Captions break at the width of their table, but not before this."""
_Rows = Sequence[Sequence[str]]


class Letters:
    """Letters that stand for long names: the same one for a name in every table of a report."""

    def __init__(self) -> None:
        self._all: dict[str, str] = {}

    def of(self, name: str) -> str:
        """The letter of a name; after Z comes AA."""
        if name not in self._all:
            number, letter = len(self._all), ""
            while number >= 0:
                number, place = divmod(number, len(ascii_uppercase))
                letter, number = ascii_uppercase[place] + letter, number - 1
            self._all[name] = letter
        return self._all[name]


def laid_out(table: Table, console: Console, letters: Letters | None = None) -> Text:
    """A table, each column as wide as its widest cell; to be printed with `soft_wrap`.

    Where the terminal is too narrow for that, the first of these that helps is done: headings of figures take
    several lines; what the first columns repeat becomes a line above its rows; texts wrap between words;
    letters stand for long names, with a legend; the columns are divided. No figure is ever cut.
    """
    rows = [[_cell(text) for text in row] for row in table.rows]
    room = console.width
    caption = Text(plain(table.caption), style="italic")
    deepest = _foldable(table.columns, rows)
    for depth in range(deepest + 1):
        for gap in _GAPS[:2]:
            grid = _Grid(table.columns, rows, depth, gap)
            if grid.excess(room) <= 0:
                return _joined(console, caption, [grid])
    for depth in dict.fromkeys((deepest, 0)):
        for gap in _GAPS[1:]:
            grid = _Grid(table.columns, rows, depth, gap)
            if grid.shrink(room, whole_words=True):
                return _joined(console, caption, [grid])
    named, legend = _lettered(table.columns, rows, letters or Letters())
    grids = [_Grid(columns, part) for columns, part in _divided(table.columns, named, room)]
    for grid in grids:
        grid.shrink(room, whole_words=False)
    return _joined(console, caption, grids, legend)


class _Grid:
    """Columns with their widths; the first `depth` of them stand above their rows."""

    def __init__(self, columns: Sequence[Column], rows: _Rows, depth: int = 0, gap: int = _GAPS[1]) -> None:
        self.columns = columns[depth:]
        self.edge = _EDGE + (_INDENT if depth else "")
        self.groups: dict[str, list[Sequence[str]]] = {}
        for row in rows:
            self.groups.setdefault(", ".join(row[:depth]), []).append(row[depth:])
        self.gap = " " * gap
        self.heads = [_head(column, narrow=gap < _GAPS[0]) for column in self.columns]
        body = [row[depth:] for row in rows]
        self.cells = list(zip(*body, strict=True)) or [()] * len(self.columns)
        self.widths = [
            max([0 if column.numeric else _NARROWEST, *map(cell_len, (*head, *cells))])
            for column, head, cells in zip(self.columns, self.heads, self.cells, strict=True)
        ]

    @property
    def width(self) -> int:
        return sum(self.widths) + len(self.gap) * (len(self.widths) - 1)

    def excess(self, room: int) -> int:
        return len(self.edge) + self.width + len(_EDGE) - room

    def shrink(self, room: int, *, whole_words: bool) -> bool:
        """Take the excess from columns of text, always from the widest; False if that is not enough.

        The room right of a table may go. With `whole_words` no word is broken.
        """
        excess = self.excess(room)
        least = {
            place: max([_NARROWEST, *map(cell_len, self._words(place))] if whole_words else [_NARROWEST])
            for place, column in enumerate(self.columns)
            if not column.numeric
        }
        spare = sum(max(self.widths[place] - width, 0) for place, width in least.items())
        if excess > spare + len(_EDGE):
            return False
        for _ in range(min(excess, spare)):
            widest = max(
                (place for place in least if self.widths[place] > least[place]), key=self.widths.__getitem__
            )
            self.widths[widest] -= 1
        return True

    def _words(self, place: int) -> Iterator[str]:
        for text in (*self.heads[place], *self.cells[place]):
            yield from text.split()

    def lines(self, console: Console) -> tuple[list[str], list[str]]:
        """The lines of the heading, and the rule and all lines below it."""

        @cache
        def wrapped(text: str, width: int) -> list[str]:
            return _wrapped(text, width, console)

        def line(parts: Sequence[str]) -> str:
            return (self.edge + self.gap.join(map(_aligned, parts, self.widths, self.columns))).rstrip()

        above = [
            [part for text in head for part in wrapped(text, width)]
            for head, width in zip(self.heads, self.widths, strict=True)
        ]
        height = max(map(len, above))
        head = [
            line(parts) for parts in zip(*([""] * (height - len(one)) + one for one in above), strict=True)
        ]
        body = [_EDGE + "─" * (self.width + len(self.edge) - len(_EDGE))]
        for group, rows in self.groups.items():
            if group:
                body += [_EDGE + part for part in wrapped(group, max(console.width - len(_EDGE), 1))]
            body += [
                line(parts)
                for row in rows
                for parts in zip_longest(*map(wrapped, row, self.widths), fillvalue="")
            ]
        return head, body


def _joined(console: Console, caption: Text, grids: Sequence[_Grid], legend: Sequence[str] = ()) -> Text:
    parts: list[Text] = []
    widest = max(_READABLE, *(len(grid.edge) + grid.width + len(_EDGE) for grid in grids))
    shown = caption.wrap(console, min(widest, console.width))
    for one in shown:
        one.rstrip()
        parts.append(one)
    for grid in grids:
        head, body = grid.lines(console)
        parts += [Text(), Text("\n".join(head), style="bold"), Text("\n".join(body))]
    for name in legend:
        parts += [Text(line) for line in _wrapped(name, max(console.width, _LONG), console)]
    return Text("\n").join([*parts, Text()])


def _foldable(columns: Sequence[Column], rows: _Rows) -> int:
    """How many of the first columns say the same in several rows."""
    depth = 0
    for column in columns[: min(_DEEPEST, len(columns) - 1)]:
        if column.numeric or len({tuple(row[: depth + 1]) for row in rows}) == len(rows):
            break
        depth += 1
    return depth


def _lettered(columns: Sequence[Column], rows: _Rows, letters: Letters) -> tuple[list[list[str]], list[str]]:
    """The rows with letters for the long names of their first columns, and what the letters stand for."""
    changed = [list(row) for row in rows]
    legend: dict[str, str] = {}
    for place in range(_leading(columns)):
        if max((cell_len(row[place]) for row in rows), default=0) > _LONG:
            for row in changed:
                name, row[place] = row[place], letters.of(row[place])
                legend[row[place]] = name
    return changed, [f"{_EDGE}{letter}  {name}" for letter, name in legend.items()]


def _leading(columns: Sequence[Column]) -> int:
    """The number of columns of text before the first figure."""
    return next((place for place, column in enumerate(columns) if column.numeric), len(columns))


def _divided(
    columns: Sequence[Column], rows: Sequence[list[str]], room: int
) -> Iterator[tuple[list[Column], list[list[str]]]]:
    """Parts of a table that fit, each with the columns that name its rows."""
    first = max(_leading(columns), 1) if columns[0].numeric else _leading(columns)
    names = list(range(first))
    part: list[int] = []

    def taken(places: Sequence[int]) -> tuple[list[Column], list[list[str]]]:
        return [columns[place] for place in places], [[row[place] for place in places] for row in rows]

    for place in range(first, len(columns)):
        if part and not _Grid(*taken([*names, *part, place])).shrink(room, whole_words=True):
            # Those of one kind, as the numbers of turns, stay together.
            kind = [one for one in part if _counted(columns[one])] if _counted(columns[place]) else []
            kind = kind if len(kind) < len(part) else []
            yield taken([*names, *(one for one in part if one not in kind)])
            part = kind
        part.append(place)
    yield taken([*names, *part])


def _counted(column: Column) -> bool:
    """Whether a column is about a number of turns."""
    return column.name.removesuffix("s").removesuffix(" turn").isdigit()


def _wrapped(text: str, width: int, console: Console) -> list[str]:
    if cell_len(text) <= width:
        return [text]
    return [line.plain.rstrip() for line in Text(text).wrap(console, width, overflow="fold")]


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
