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
    points,
    show,
)
from safemt_client.results.scores import wording
from safemt_client.results.scores.wording import CI

__all__ = ["trend"]

_TEXT = Column("Target", numeric=False)


def trend(known: ReportData) -> Section | None:
    """The trend of ASR over the turns of each target, and the turns of live history."""
    trends = [row for row in known.rows("trends") if row["items"]]
    reached = known.rows("asr_by_turn_reached")
    blocks: list[Block] = []
    brief: list[Block] = []
    if trends:
        blocks.append(_trends(known, trends))
        brief.append(Notes([_sentence(known, row) for row in trends]))
    if reached:
        rates, first = _reached(known, reached), _first_unsafe(known)
        caption = "Live history: ASR at each turn reached (%)"
        blocks += [Figure(caption, _panels(known, reached), rates), first]
        brief += [rates, first]
    return Section("trend", "Change with the turns", blocks, brief) if blocks else None


def _sentence(known: ReportData, row: dict[str, Any]) -> str:
    slope = row["slope"]
    bounds = interval(slope["low"], slope["high"], signed=True)
    return (
        f"{known.target(row['target'])}: {wording.trend(row)}: {points(slope)} points a turn, "
        f"{CI}: {bounds}, p = {row['p']:.2g}" + (" (small sample)" if slope["small"] else "")
    )


def _trends(known: ReportData, rows: Sequence[dict[str, Any]]) -> Table:
    return Table(
        "Does ASR change with the turns? (points a turn, items resampled)",
        [_TEXT, *map(Column, ("Slope", CI, "p", "Items")), Column("Verdict", numeric=False)],
        [
            (
                known.target(row["target"]),
                points(row["slope"]),
                interval(row["slope"]["low"], row["slope"]["high"], small=row["slope"]["small"], signed=True),
                f"{row['p']:.2g}",
                str(row["items"]),
                show(row["verdict"]),
            )
            for row in rows
        ],
        f"{SMALL_NOTE} 'not shown' is not the same as none.",
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
