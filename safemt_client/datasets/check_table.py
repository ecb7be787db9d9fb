"""The findings of `data check` for a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from safemt_client.datasets.check import Pictures, Report
from safemt_client.results.sanitize import plain

__all__ = ["render"]

_SHOWN = 10
_LISTED = 50


def render(report: Report) -> RenderableType:
    """The counts as a table, then what has to be repaired, a line for each."""
    table = Table(box=None, show_header=False)
    table.add_row("data set", _safe(f"{report.name}, digest {report.digest[:12]}"))
    table.add_row("licence", _safe(report.licence or "not stated"))
    table.add_row("dialogues", f"{report.dialogues} of {report.items} items; {report.usable} can be sent")
    table.add_row("by user turns", _counts(report.lengths))
    table.add_row("by scenario", _counts(report.scenarios))
    table.add_row("by source", _counts(report.sources))
    table.add_row("by method", _counts(report.methods))
    for name, count in (
        ("benign", report.benign),
        ("need --history live", report.live_only),
        ("with a system message", report.system),
        ("pairs of twins", report.pairs),
    ):
        if count:
            table.add_row(name, str(count))
    if report.controls:
        table.add_row("controls", _counts(report.controls))
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
    return Group(
        table,
        *_listed("refused records", report.refused, report.refused_count),
        *_listed("missing images", report.missing_images),
        *_listed("broken images", report.broken_images),
    )


def _pictures(found: Pictures) -> list[tuple[str, str]]:
    if not found.count:
        return []
    inside = f", {found.embedded} of them inside the data files" if found.embedded else ""
    sent = (
        f"{_counts(found.types)}; {found.bytes:,} bytes, longest edge {found.largest} px"
        if found.types
        else "none"
    )
    rows = [
        ("pictures", f"{found.count}{inside}"),
        ("sent as", sent),
        ("sent unchanged", str(found.as_it_is)),
    ]
    return rows + ([("before sending", _counts(found.notes))] if found.notes else [])


def _safe(text: str) -> str:
    return escape(plain(text))


def _counts(values: dict[Any, int]) -> str:
    return _safe(", ".join(f"{name}: {count}" for name, count in values.items()))


def _some(values: list[str]) -> str:
    if not values:
        return "none"
    more = f" and {len(values) - _SHOWN} more (--json lists all)" if len(values) > _SHOWN else ""
    return _safe(f"{len(values)}: " + ", ".join(values[:_SHOWN]) + more)


def _listed(name: str, found: list[str], count: int | None = None) -> list[str]:
    """A heading and a line for each, up to a number."""
    if not found:
        return []
    more = (len(found) if count is None else count) - min(len(found), _LISTED)
    lines = [_safe(f"  {line}") for line in found[:_LISTED]]
    return ["", f"{name}:", *lines, *([f"  and {more:,} more (--json lists {len(found):,})"] if more else [])]
