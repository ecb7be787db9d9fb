"""The section about the turns: does ASR change with them, and in live history, what happens at each turn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from safemt_client.results.report.data import ReportData
from safemt_client.results.report.document import (
    SMALL_NOTE,
    UNKNOWN,
    Block,
    Column,
    Figure,
    Notes,
    Plot,
    Section,
    Table,
    interval,
    marked,
    percent,
    show,
)
from safemt_client.results.scores import wording
from safemt_client.results.scores.wording import CI

__all__ = ["trend"]

_TEXT = Column("Target", numeric=False)
_STEPS = ("drop", "rise")


def trend(known: ReportData) -> Section | None:
    """The trend of ASR over the turns of each target, and the turns of live history."""
    trends = [row for row in known.rows("trends") if row["items"]]
    reached = known.rows("asr_by_turn_reached")
    blocks: list[Block] = []
    brief: list[Block] = []
    if trends:
        blocks.append(_trends(known, trends))
        brief.append(Notes([f"{known.target(row['target'])}: {wording.trend(row)}" for row in trends]))
    if reached:
        rates, first = _reached(known, reached), _first_unsafe(known)
        caption = "Live history: ASR at each turn reached (%)"
        blocks += [Figure(caption, _panels(known, reached), rates), first]
        brief += [rates, first]
    return Section("trend", "Change with the turns", blocks, brief) if blocks else None


def _trends(known: ReportData, rows: Sequence[dict[str, Any]]) -> Table:
    return Table(
        "Does ASR change with the turns?",
        [
            _TEXT,
            *map(Column, ("Points per additional turn", CI, "p", "Items")),
            Column("Verdict", numeric=False),
            *(Column(f"Largest {what} between neighbouring lengths", numeric=False) for what in _STEPS),
        ],
        [
            (
                known.target(row["target"]),
                wording.per_turn(row["slope"]["estimate"]),
                marked(
                    f"{wording.per_turn(row['slope']['low'])} to {wording.per_turn(row['slope']['high'])}",
                    row["slope"]["small"],
                ),
                f"{row['p']:.2g}",
                str(row["items"]),
                show(row["verdict"]),
                *("not shown" if row[what] is None else wording.step(row[what]) for what in _STEPS),
            )
            for row in rows
        ],
        f"{SMALL_NOTE} On average over the items, of which each counts once. It rises or falls where test "
        "and interval agree; 'not shown' is not the same as none.",
    )


def _panels(known: ReportData, rows: Sequence[dict[str, Any]]) -> list[Plot]:
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["target"]].append(row)
    return [
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


def _reached(known: ReportData, rows: Sequence[dict[str, Any]]) -> Table:
    return Table(
        "Live history: ASR at each turn reached (%)",
        [_TEXT, *map(Column, ("Turn", "ASR", CI, "Unsafe/scored", "Reached"))],
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
        SMALL_NOTE,
    )


def _first_unsafe(known: ReportData) -> Table:
    return Table(
        "Live history: where conversations turn unsafe",
        [_TEXT, *map(Column, ("Conversations", "Turn unsafe", "Median turn", "Safe again later"))],
        [
            (
                known.target(row["target"]),
                str(row["conversations"]),
                marked(str(row["unsafe"]), row["small"]),
                UNKNOWN if row["median_turn"] is None else f"{row['median_turn']:g}",
                str(row["recovered"]),
            )
            for row in known.rows("first_unsafe")
        ],
        SMALL_NOTE,
    )
