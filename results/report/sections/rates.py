"""Sections about attack success rates, by number of user turns, scenario and method."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from safemt_client.results.report.data import ReportData
from safemt_client.results.report.document import (
    SMALL_NOTE,
    SMALL_SAMPLE,
    UNKNOWN,
    Block,
    Column,
    Figure,
    Notes,
    Plot,
    Section,
    Table,
    estimate,
    interval,
    marked,
    percent,
    turns,
    unique,
)
from safemt_client.results.scores.wording import CI

__all__ = ["by_turn", "scenarios"]

_TEXT = Column("Target", numeric=False)


def by_turn(known: ReportData) -> Section | None:
    """ASR by number of user turns with intervals, coverage and bounds; its trend; live turns."""
    rows = known.rows("asr_by_turn")
    if not rows:
        return None
    groups: dict[str, list[dict[str, Any]]] = {name: [] for name in known.by_risk}
    for row in rows:
        groups[row["target"]].append(row)
    blocks: list[Block] = [
        Notes(
            [
                "Attack success rate (ASR): unsafe replies among those that the judge labelled safe or "
                "unsafe, benign items left out, by the number of user turns before the reply. Bars are 95 % "
                f"confidence intervals ({CI}, Wilson). The shaded band runs from the rate if every reply "
                "without a label were safe to the rate if all of them were unsafe; hollow marks are small "
                "samples."
            ]
        ),
        Figure(
            caption="ASR by number of user turns, one panel a target, the highest first (%)",
            panels=[_line_panel(known, target, group) for target, group in groups.items()],
            table=_rates_table(known, groups),
        ),
    ]
    if len(groups) > 1:
        blocks.append(_all_targets(known, groups))
    return Section("asr", "Attack success rate", blocks, brief=[_deciding(known)])


def _line_panel(known: ReportData, target: str, rows: Sequence[Mapping[str, Any]]) -> Plot:
    data = [
        {
            "x": row["length"],
            "y": row["asr"],
            "low": row["low"],
            "high": row["high"],
            "best": row["asr_best"],
            "worst": row["asr_worst"],
            "series": "ASR",
            "small": row["small"],
        }
        for row in rows
    ]
    said = ", ".join(
        f"{percent(row['asr'])} % ({interval(row['low'], row['high'])}) at {turns(row['length'])}"
        for row in rows
        if row["asr"] is not None
    )
    return Plot(
        "lines",
        known.target(target),
        f"ASR of {known.target(target)}: {said or 'nothing is scored'}.",
        data,
        {"x": "user turns", "series": ["ASR"]},
    )


_RATE: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "Turns": lambda row: str(row["length"]),
    "ASR": lambda row: percent(row["asr"]),
    CI: lambda row: (
        f"{interval(row['low'], row['high'])} (sequence)"
        if row["stopped"]
        else interval(row["low"], row["high"], small=row["small"])
    ),
    "Unsafe/scored": lambda row: f"{row['unsafe']}/{row['scored']}",
    "Not scored": lambda row: str(row["attempted"] - row["scored"]),
    "Not attempted": lambda row: str(row["planned"] - row["attempted"]),
    "Coverage": lambda row: percent(row["coverage"]),
    "If unscored were safe": lambda row: percent(row["asr_best"]),
    "If unsafe": lambda row: percent(row["asr_worst"]),
    "Bounds": lambda row: interval(row["asr_best"], row["asr_worst"]),
}
"""What the tables say of a row of `asr_by_turn`, by column."""


def _rates_table(known: ReportData, groups: Mapping[str, Sequence[Mapping[str, Any]]]) -> Table:
    absent = _absent(row for group in groups.values() for row in group)
    shown = [name for name in _RATE if name not in ("Bounds", *absent)]
    return Table(
        "ASR by number of user turns, with coverage and bounds (%)",
        [_TEXT, *map(Column, shown)],
        [
            (known.target(target), *(_RATE[name](row) for name in shown))
            for target, group in groups.items()
            for row in group
        ],
        f"{SMALL_NOTE} Coverage: scored among planned"
        + ("." if absent else "; not attempted is what could not be sent."),
    )


def _absent(rows: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The columns about what could not be sent, where there is nothing of the kind."""
    return () if any(row["planned"] > row["attempted"] for row in rows) else ("Not attempted",)


def _deciding(known: ReportData) -> Table:
    """The rates under the judge that decides; those of a panel's members are with the judges."""
    rows = known.rows("asr_by_turn")
    absent = _absent(rows)
    names = ("Turns", "ASR", CI, "Unsafe/scored", "Not attempted", "Coverage", "Bounds")
    shown = [name for name in names if name not in absent]
    panel = f", as judged by {known.judge_label(known.judge)}" if known.panel else ""
    return Table(
        f"Attack success rate by number of user turns (%){panel}",
        [_TEXT, *map(Column, shown)],
        [(known.target(row["target"]), *(_RATE[name](row) for name in shown)) for row in rows],
        SMALL_SAMPLE,
    )


def _all_targets(known: ReportData, groups: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    lengths = sorted({row["length"] for group in groups.values() for row in group})
    cells = {(target, row["length"]): row for target, group in groups.items() for row in group}

    order = known.by_risk
    panels = []
    for length in lengths:
        data = [
            {
                "label": known.target(target),
                "series": "ASR",
                "x": row["asr"],
                "low": row["low"],
                "high": row["high"],
                "small": row["small"],
            }
            for target in order
            if (row := cells.get((target, length))) is not None
        ]
        panels.append(
            Plot(
                "dots",
                turns(length),
                f"ASR of every target at {turns(length)}, with {CI}; the figures are in the table.",
                data,
                {"order": [known.target(target) for target in order], "series": ["ASR"], "percent": True},
            )
        )

    def cell(target: str, length: int) -> str:
        row = cells.get((target, length))
        if row is None or row["asr"] is None:
            return UNKNOWN
        return estimate({**row, "estimate": row["asr"]})

    return Figure(
        caption="All targets side by side, by number of user turns (%, sorted by their mean)",
        panels=panels,
        table=Table(
            f"ASR of each target with {CI} (%)",
            [_TEXT, *(Column(turns(length)) for length in lengths)],
            [(known.target(target), *(cell(target, length) for length in lengths)) for target in order],
            SMALL_NOTE,
        ),
    )


def scenarios(known: ReportData) -> Section | None:
    """ASR by scenario and length, and by method where the data name one."""
    blocks: list[Block] = []
    brief: list[Block] = []
    methods = unique(row["method"] for row in known.rows("asr_by_method"))
    for name, labels in (("scenario", known.scenarios), ("method", methods)):
        rows = known.rows(f"asr_by_{name}")
        if rows:
            blocks.append(_heat(known, rows, name, labels))
            brief.append(_grid(known, rows, name, labels))
    return Section("scenarios", "Scenarios by number of turns", blocks, brief) if blocks else None


def _grid(known: ReportData, rows: list[dict[str, Any]], name: str, labels: Mapping[Any, str]) -> Table:
    """Unsafe/scored of each scenario or method by number of user turns."""
    lengths = sorted({row["length"] for row in rows})
    cells = {(row["target"], row[name], row["length"]): _RATE["Unsafe/scored"](row) for row in rows}
    return Table(
        f"ASR by {name} (unsafe/scored)",
        [_TEXT, Column(name.capitalize(), numeric=False), *(Column(str(length)) for length in lengths)],
        [
            (
                *(known.target(target), labels[value]),
                *(cells.get((target, value, length), "") for length in lengths),
            )
            for target, value in dict.fromkeys((row["target"], row[name]) for row in rows)
        ],
    )


def _heat(known: ReportData, rows: list[dict[str, Any]], name: str, labels: Mapping[Any, str]) -> Figure:
    lengths = sorted({row["length"] for row in rows})
    groups: dict[str, list[dict[str, Any]]] = {name: [] for name in known.by_risk}
    for row in rows:
        groups.setdefault(row["target"], []).append(row)
    panels = []
    body: list[Sequence[str]] = []
    for target, group in groups.items():
        data = [
            {
                "row": labels[row[name]],
                "x": row["length"],
                "y": row["asr"],
                "text": f"{row['unsafe']}/{row['scored']}",
            }
            for row in group
        ]
        panels.append(
            Plot(
                "heat",
                known.target(target),
                f"ASR of {known.target(target)} by {name} and user turns, unsafe/scored in each cell; the "
                "figures are in the table.",
                data,
                {"rows": list(labels.values()), "lengths": lengths},
            )
        )
        cells = {(row[name], row["length"]): row for row in group}
        body += [
            (known.target(target), label, *(_cell(cells.get((value, length))) for length in lengths))
            for value, label in labels.items()
            if any((value, length) in cells for length in lengths)
        ]
    return Figure(
        f"ASR by {name} and number of user turns (unsafe/scored)",
        panels,
        Table(
            f"ASR by {name} and number of user turns: unsafe/scored, with {CI} in percent",
            [_TEXT, Column(name.capitalize(), numeric=False), *(Column(turns(k)) for k in lengths)],
            body,
            SMALL_NOTE,
        ),
        legend=[("heat", "")],
    )


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "none"
    if row["asr"] is None:
        return f"0/0 {UNKNOWN}"
    counts = f"{row['unsafe']}/{row['scored']}"
    if row["low"] is None:
        return counts
    bounds = f"{100 * row['low']:.0f} to {100 * row['high']:.0f}"
    return f"{counts} ({marked(bounds, row['small'])})"
