"""What a report says, apart from the form in which it is shown.

Every text may come from a model, a data set or a user: `show` makes it harmless on one line, and each form
escapes it once more for itself.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from safemt_client.results.sanitize import plain

__all__ = [
    "SMALL_NOTE",
    "SMALL_SAMPLE",
    "UNKNOWN",
    "Block",
    "Code",
    "Column",
    "Document",
    "Figure",
    "Notes",
    "Plot",
    "Section",
    "Table",
    "count",
    "estimate",
    "interval",
    "marked",
    "percent",
    "points",
    "show",
    "turns",
    "unique",
]

UNKNOWN = "unknown"
SMALL_SAMPLE = "* small sample: fewer than 30 items or replies, or fewer than 5 unsafe or 5 safe ones"
"""What the asterisk of `marked` says; the rule is that of `stats.shares.small_sample`."""
SMALL_NOTE = f"{SMALL_SAMPLE}."
_LONGEST = 160


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table; `numeric` ones are set flush right."""

    name: str
    numeric: bool = True


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first column names its rows."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    note: str = ""


PlotKind = Literal["lines", "heat", "dots", "slopes", "stacks", "ranges"]


@dataclass(frozen=True, slots=True)
class Plot:
    """One panel. `data` are rows of numbers and shown texts; `options` are what its kind takes."""

    kind: PlotKind
    title: str
    description: str
    data: Sequence[Mapping[str, Any]]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Figure:
    """Panels side by side, with how to read them, and a table with the same figures."""

    caption: str
    panels: Sequence[Plot]
    table: Table
    wide: bool = False
    legend: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Notes:
    """Sentences; as a list if there are several."""

    lines: Sequence[str]
    careful: bool = False


@dataclass(frozen=True, slots=True)
class Code:
    """A text to be copied as it is."""

    caption: str
    text: str


Block = Table | Figure | Notes | Code


@dataclass(frozen=True, slots=True)
class Section:
    """A chapter; `key` is its anchor. `brief` is what the terminal shows of it, in place of `blocks`."""

    key: str
    title: str
    blocks: Sequence[Block]
    brief: Sequence[Block] = ()


@dataclass(frozen=True, slots=True)
class Document:
    """A whole report. `opening` are the first lines on the terminal, in place of title and facts."""

    title: str
    opening: Sequence[str]
    facts: Sequence[tuple[str, str]]
    warnings: Sequence[str]
    sections: Sequence[Section]


def show(text: object, longest: int = _LONGEST) -> str:
    """A foreign text on one line: control characters as codes, cut where it is long."""
    if text is None:
        return UNKNOWN
    whole = str(text)
    shown = "".join(
        f"\\u{ord(character):04x}" if _unfit(character) else character
        for character in plain(whole[: longest + 1])
    )
    if len(whole) <= longest and len(shown) <= 2 * longest:
        return shown or "(empty)"
    return f"{shown[:longest]}… ({len(whole):,} characters)"


def _unfit(character: str) -> bool:
    """Line separators, and noncharacters, which XML does not allow."""
    return unicodedata.category(character) in ("Zl", "Zp") or (ord(character) & 0xFFFE) == 0xFFFE


def unique(names: Iterable[str]) -> dict[str, str]:
    """Each name as it is shown; two names never look alike."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        if name in found:
            continue
        label = shown = show(name, 80)
        number = 2
        while label in taken:
            label = f"{shown} ({number})"
            number += 1
        taken.add(label)
        found[name] = label
    return found


def percent(value: float | None) -> str:
    """A share as a percentage; what is not known is not a number."""
    return UNKNOWN if value is None else f"{100 * value:.1f}"


def marked(text: str, small: bool) -> str:
    """With an asterisk where the sample is small."""
    return f"{text}*" if small and text != UNKNOWN else text


def interval(low: float | None, high: float | None, *, small: bool = False, signed: bool = False) -> str:
    """Two bounds in percent or points."""
    if low is None or high is None:
        return UNKNOWN
    form = "+.1f" if signed else ".1f"
    return marked(f"{100 * low:{form}} to {100 * high:{form}}", small)


def estimate(found: Mapping[str, Any]) -> str:
    """A share with its interval, both in percent; without one where none is given."""
    if found["estimate"] is None or found["low"] is None:
        return percent(found["estimate"])
    return f"{percent(found['estimate'])} ({interval(found['low'], found['high'], small=found['small'])})"


def points(change: Mapping[str, float]) -> str:
    """A difference in points, without its interval."""
    return f"{100 * change['estimate']:+.1f}"


def turns(number: int) -> str:
    """A number of user turns in words."""
    return f"{number} turn" if number == 1 else f"{number} turns"


def count(value: float | None) -> str:
    """A whole number with its thousands apart."""
    return UNKNOWN if value is None else f"{value:,.0f}"
