"""The findings of `data check` for a terminal."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from safemt_client.datasets.check import Pictures, Report
from safemt_client.results.sanitize import plain

__all__ = ["show"]

_SHOWN = 10
"""Examples of each kind in the table, and oddities of each kind below it."""
_LISTED = 50
_FITS = 60
"""Characters beside the names of the rows, at 80 columns."""
_List = tuple[str, list[str], list[str]]
"""A heading, its lines, and what is said of others."""


def show(report: Report, console: Console) -> None:
    """Print the counts as a table, then what has to be repaired and what is odd, a line for each.

    On a terminal long lines go on under their beginning; elsewhere they are whole, for `grep`.
    """
    console.print(_table(report))
    for name, lines, more in (
        _listed("refused records", report.refused, report.refused_count),
        _listed("missing images", report.missing_images),
        _listed("broken images", report.broken_images),
        _odd(report),
    ):
        if lines:
            console.print(f"\n{name}:", markup=False, highlight=False)
        for line in (*lines, *more):
            _line(line, console)


def _line(line: str, console: Console) -> None:
    text = Text(plain(line))
    if not console.is_terminal:
        console.print(Text("  ") + text, soft_wrap=True)
        return
    for number, part in enumerate(text.wrap(console, max(console.width - 4, 20))):
        part.rstrip()
        console.print(Text("    " if number else "  ") + part, soft_wrap=True)


def _table(report: Report) -> RenderableType:
    table = Table(box=None, show_header=False)
    table.add_row("data set", _safe(f"{report.name}, digest {report.digest[:12]}"))
    table.add_row("licence", _safe(report.licence or "not stated"))
    table.add_row("dialogues", f"{report.dialogues} of {report.items} items; {report.usable} can be sent")
    for name, counts in (
        ("by user turns", report.lengths),
        ("by scenario", report.scenarios),
        ("by source", report.sources),
        ("by method", report.methods),
    ):
        if counts:
            table.add_row(name, _counts(counts))
    for name, count in (
        ("benign", report.benign),
        ("need --history live", report.live_only),
        ("with a system message", report.system),
        ("with labels of turns", report.labelled),
    ):
        if count:
            table.add_row(name, str(count))
    if report.controls:
        table.add_row("controls", _counts(report.controls))
    if report.pairs:
        half = f", {report.half_pairs} of them with one twin only" if report.half_pairs else ""
        table.add_row("pairs of twins", f"{report.pairs}{half}")
    for length, items in report.missing_ids.items():
        table.add_row(f"missing at {length}", _some(items))
    for name, text in _pictures(report.pictures):
        table.add_row(name, text)
    table.add_row("refused records", str(report.refused_count or "none"))
    table.add_row("missing images", str(len(report.missing_images) or "none"))
    table.add_row("broken images", str(len(report.broken_images) or "none"))
    table.add_row("same question", _some([" = ".join(items) for items in report.duplicate_questions]))
    if report.alike:
        table.add_row("names alike", _some([" = ".join(map(repr, names)) for names in report.alike]))
    table.add_row("oddities", _counts(report.oddities) or "none")
    return table


def _pictures(found: Pictures) -> list[tuple[str, str]]:
    if not found.count:
        return []
    inside = f", {found.embedded} of them inside the data files" if found.embedded else ""
    types = ", ".join(f"{name}: {count:,}" for name, count in found.types.items())
    sent = f"{types}; {found.bytes:,} bytes, longest edge {found.largest} px" if found.types else "none"
    rows = [
        ("pictures", f"{found.count}{inside}"),
        ("sent as", sent),
        ("sent unchanged", str(found.as_it_is)),
    ]
    return rows + ([("before sending", _counts(found.notes))] if found.notes else [])


def _safe(text: str) -> str:
    return escape(plain(text))


def _counts(values: dict[Any, int]) -> str:
    """The counts on one line if they fit on any screen, else each on its own."""
    said = [f"{name}: {count:,}" for name, count in values.items()]
    line = ", ".join(said)
    if len(line) <= _FITS:
        return _safe(line)
    more = [f"and {len(said) - _LISTED:,} more (--json lists all)"] if len(said) > _LISTED else []
    return "\n".join(map(_safe, [*said[:_LISTED], *more]))


def _some(values: list[str]) -> str:
    if not values:
        return "none"
    more = f" and {len(values) - _SHOWN} more (--json lists all)" if len(values) > _SHOWN else ""
    return _safe(f"{len(values)}: " + ", ".join(values[:_SHOWN]) + more)


def _listed(name: str, found: list[str], count: int | None = None) -> _List:
    """A heading, its lines up to a number, and a line about the others."""
    more = (len(found) if count is None else count) - min(len(found), _LISTED)
    return name, found[:_LISTED], [f"and {more:,} more (--json lists {len(found):,})"] if more else []


def _odd(report: Report) -> _List:
    """The first oddities of each kind."""
    shown: Counter[str] = Counter()
    lines = []
    for odd in report.oddity_list:
        shown[odd["kind"]] += 1
        if shown[odd["kind"]] <= _SHOWN:
            lines.append(f"{odd['kind']}: {odd['where']}: {odd['text']}")
    left = {kind: count - _SHOWN for kind, count in shown.items() if count > _SHOWN}
    said = ", ".join(f"{kind}: {count:,}" for kind, count in left.items())
    return (
        "oddities",
        sorted(lines, key=lambda line: line.split(":")[0]),
        ([f"and more (--json lists all): {said}"] if left else []),
    )
