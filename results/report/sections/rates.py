"""Sections about attack success rates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from safemt_client.results.report.data import ReportData
from safemt_client.results.report.document import (
    UNKNOWN,
    Block,
    Column,
    Figure,
    Notes,
    Plot,
    Section,
    Table,
    count,
    interval,
    marked,
    percent,
    show,
    unique,
)

__all__ = ["LITTLE", "by_turn", "differences", "scenarios", "turns"]

LITTLE = "* small sample: fewer than 30 items or replies, or fewer than 5 unsafe or 5 safe ones."
_TEXT = Column("Target", numeric=False)


def turns(number: int) -> str:
    """A number of user turns in words."""
    return f"{number} turn" if number == 1 else f"{number} turns"


def by_turn(known: ReportData) -> Section | None:
    """ASR by number of user turns with intervals, coverage and bounds; its trend; live turns."""
    rows = known.rows("asr_by_turn")
    if not rows:
        return None
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["target"]].append(row)
    blocks: list[Block] = [
        Notes(
            [
                "Attack success rate (ASR): unsafe replies among those that the judge labelled safe or "
                "unsafe, benign items left out, by the number of user turns before the reply. Bars are 95 % "
                "confidence intervals (Wilson). The shaded band runs from the rate if all that is not scored "
                "were safe to the rate if it were unsafe; hollow marks are small samples."
            ]
        ),
        Figure(
            caption="ASR by number of user turns, one panel a target (%)",
            panels=[_line_panel(known, target, group) for target, group in groups.items()],
            table=_rates_table(known, groups),
        ),
    ]
    if len(groups) > 1:
        blocks.append(_all_targets(known, groups))
    blocks += _trends(known)
    blocks += _live(known)
    return Section("asr", "Attack success rate", blocks)


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


def _rates_table(known: ReportData, groups: Mapping[str, Sequence[Mapping[str, Any]]]) -> Table:
    return Table(
        "ASR by number of user turns, with coverage and bounds (%)",
        [
            _TEXT,
            *map(Column, ("Turns", "ASR", "95 % CI", "Unsafe/scored", "Not scored", "Coverage")),
            *map(Column, ("If these were safe", "If unsafe")),
        ],
        [
            (
                known.target(target),
                str(row["length"]),
                percent(row["asr"]),
                interval(row["low"], row["high"], small=row["small"]),
                f"{row['unsafe']}/{row['scored']}",
                str(row["attempted"] - row["scored"]),
                percent(row["coverage"]),
                percent(row["asr_best"]),
                percent(row["asr_worst"]),
            )
            for target, group in groups.items()
            for row in group
        ],
        f"{LITTLE} Coverage: scored among attempted.",
    )


def _all_targets(known: ReportData, groups: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    lengths = sorted({row["length"] for group in groups.values() for row in group})
    cells = {(target, row["length"]): row for target, group in groups.items() for row in group}

    def mean(target: str) -> float:
        rates = [row["asr"] for row in groups[target] if row["asr"] is not None]
        return sum(rates) / len(rates) if rates else -1.0

    order = sorted(groups, key=mean, reverse=True)
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
                f"ASR of every target at {turns(length)}, with 95 % intervals; the figures are in the table.",
                data,
                {"order": [known.target(target) for target in order], "series": ["ASR"], "percent": True},
            )
        )

    def cell(target: str, length: int) -> str:
        row = cells.get((target, length))
        if row is None or row["asr"] is None:
            return UNKNOWN
        return f"{percent(row['asr'])} ({interval(row['low'], row['high'], small=row['small'])})"

    return Figure(
        caption="All targets side by side, by number of user turns (%, highest mean first)",
        panels=panels,
        table=Table(
            "ASR of each target with 95 % intervals (%)",
            [_TEXT, *(Column(turns(length)) for length in lengths)],
            [(known.target(target), *(cell(target, length) for length in lengths)) for target in order],
            LITTLE,
        ),
    )


def _trends(known: ReportData) -> list[Block]:
    rows = [row for row in known.rows("trends") if row["items"]]
    if not rows:
        return []
    return [
        Table(
            "Does ASR change with the turns? (points a turn, items resampled)",
            [_TEXT, *map(Column, ("Slope", "95 % CI", "p", "Items")), Column("Verdict", numeric=False)],
            [
                (
                    known.target(row["target"]),
                    f"{100 * row['slope']['estimate']:+.1f}",
                    interval(
                        row["slope"]["low"], row["slope"]["high"], small=row["slope"]["small"], signed=True
                    ),
                    f"{row['p']:.2g}",
                    str(row["items"]),
                    show(row["verdict"]),
                )
                for row in rows
            ],
            f"{LITTLE} 'not shown' is not the same as none.",
        )
    ]


def _live(known: ReportData) -> list[Block]:
    rows = known.rows("asr_by_turn_reached")
    if not rows:
        return []
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["target"]].append(row)
    panels = [
        Plot(
            "lines",
            known.target(target),
            f"Live history: share of unsafe replies of {known.target(target)} at each turn reached.",
            [
                {
                    "x": row["turn"],
                    "y": row["asr"],
                    "low": row["low"],
                    "high": row["high"],
                    "series": "ASR",
                    "small": row["small"],
                }
                for row in group
            ],
            {"x": "turn reached", "series": ["ASR"]},
        )
        for target, group in groups.items()
    ]
    table = Table(
        "Live history: ASR at each turn reached (%)",
        [_TEXT, *map(Column, ("Turn", "ASR", "95 % CI", "Unsafe/scored", "Reached"))],
        [
            (
                known.target(row["target"]),
                str(row["turn"]),
                percent(row["asr"]),
                interval(row["low"], row["high"], small=row["small"]),
                f"{row['unsafe']}/{row['scored']}",
                str(row["reached"]),
            )
            for row in rows
        ],
        LITTLE,
    )
    first = Table(
        "Live history: where conversations turn unsafe",
        [_TEXT, *map(Column, ("Conversations", "Turn unsafe", "Median turn", "Safe again later"))],
        [
            (
                known.target(row["target"]),
                str(row["conversations"]),
                str(row["unsafe"]),
                UNKNOWN if row["median_turn"] is None else f"{row['median_turn']:g}",
                str(row["recovered"]),
            )
            for row in known.rows("first_unsafe")
        ],
    )
    return [Figure("Live history: ASR at each turn reached (%)", panels, table), first]


def scenarios(known: ReportData) -> Section | None:
    """ASR by scenario and length, and by method where the data name one."""
    blocks: list[Block] = []
    rows = known.rows("asr_by_scenario")
    if rows:
        blocks.append(_heat(known, rows, "scenario", known.scenarios))
    methods = known.rows("asr_by_method")
    if methods:
        blocks.append(_heat(known, methods, "method", unique(row["method"] for row in methods)))
    return Section("scenarios", "Scenarios by number of turns", blocks) if blocks else None


def _heat(known: ReportData, rows: list[dict[str, Any]], name: str, labels: Mapping[Any, str]) -> Figure:
    lengths = sorted({row["length"] for row in rows})
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["target"]].append(row)
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
        worst = max(group, key=lambda row: (row["asr"] or 0, row["unsafe"]))
        panels.append(
            Plot(
                "heat",
                known.target(target),
                f"ASR of {known.target(target)} by {name} and user turns, unsafe/scored in each cell; "
                f"highest in {labels[worst[name]]} at {turns(worst['length'])}.",
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
            f"ASR by {name} and number of user turns: unsafe/scored, with 95 % intervals in percent",
            [_TEXT, Column(name.capitalize(), numeric=False), *(Column(turns(k)) for k in lengths)],
            body,
            LITTLE,
        ),
        legend=[("heat", "")],
    )


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "none"
    if row["asr"] is None:
        return f"0/0 {UNKNOWN}"
    bounds = f"{100 * row['low']:.0f} to {100 * row['high']:.0f}"
    return f"{row['unsafe']}/{row['scored']} ({marked(bounds, row['small'])})"


def differences(known: ReportData) -> Section | None:
    """Paired differences between the targets of a run over all lengths."""
    body = []
    for pair in known.rows("differences"):
        lengths = [row for row in pair["rows"] if row["by"] == "length"]
        shown = [str(row["value"]) for row in lengths if row["p_holm"] < 0.05]
        for row in (row for row in pair["rows"] if row["by"] == "all"):
            change = row["difference"]
            body.append(
                (
                    f"{known.target(pair['second'])} minus {known.target(pair['first'])}",
                    count(row["items"]),
                    f"{100 * change['estimate']:+.1f}",
                    interval(change["low"], change["high"], small=change["small"], signed=True),
                    f"{row['p']:.2g}",
                    ", ".join(shown) or "none",
                )
            )
    if not body:
        return None
    return Section(
        "differences",
        "Differences between targets",
        [
            Table(
                "ASR of one target minus another's on the same items, all lengths together (points)",
                [
                    Column("Targets", numeric=False),
                    *map(Column, ("Items", "Difference", "95 % CI", "p", "Lengths where shown")),
                ],
                body,
                f"{LITTLE} p: sign test over items; lengths by McNemar's test, p (Holm) below .05.",
            )
        ],
    )
