"""The leaderboard: targets in order, and which places the data leave open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from safemt_client.results.report.document import Block, Column, Notes, Table, interval, marked, percent, show

__all__ = ["ranked"]


def ranked(rows: Sequence[Mapping[str, Any]]) -> list[Block]:
    """What `scores.leaderboard` found, and why a target has no Safety Index."""
    lengths = list(rows[0]["asr"]) if rows else []
    table = Table(
        "Leaderboard: mean ASR over the lengths (%), safest first",
        [
            Column("Places", numeric=False),
            Column("Target", numeric=False),
            *map(Column, ("Mean ASR", "95 % CI", "Index", "95 % CI", *lengths)),
        ],
        [
            (
                marked(_places(*row["ranks"]), row["small"]),
                show(row["target"]),
                percent(row["mean_asr"]["estimate"]),
                interval(row["mean_asr"]["low"], row["mean_asr"]["high"]),
                "none" if row["safety_index"] is None else f"{row['safety_index']:.4f}",
                "" if row["safety_index"] is None else f"{row['low']:.4f} to {row['high']:.4f}",
                *(f"{100 * row['asr'][length]['estimate']:.0f}" for length in lengths),
            )
            for row in rows
        ],
        "* small sample: few items",
    )
    places = "places: all that the differences between targets leave open, together at 95 % confidence"
    refused = [
        f"no Safety Index of {show(row['target'])}: {show(row['refused'])}" for row in rows if row["refused"]
    ]
    return [table, Notes([places, *refused])]


def _places(best: int, worst: int) -> str:
    return str(best) if best == worst else f"{best} - {worst}"
