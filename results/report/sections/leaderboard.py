"""The leaderboard: targets in order, and which places the data leave open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from safemt_client.results.names import short_names
from safemt_client.results.report.document import (
    Block,
    Column,
    Notes,
    Table,
    interval,
    marked,
    percent,
    show,
)
from safemt_client.results.scores.wording import CI, IMPORTED

__all__ = ["ranked"]

_LEAST_COVERED = 0.98


def ranked(rows: Sequence[Mapping[str, Any]]) -> list[Block]:
    """What `scores.leaderboard` found, why a target has no Safety Index, and what is not ranked yet.

    A target that several runs have is named with its run.
    """
    names = short_names(row["target"] for row in rows)
    often = Counter(row["target"] for row in rows)
    rows = [
        {**row, "target": names[row["target"]] + (f" ({row['run_id']})" if often[row["target"]] > 1 else "")}
        for row in rows
    ]
    waiting = [row for row in rows if row["unfinished"]]
    ready = [row for row in rows if not row["unfinished"]]
    lengths = list(ready[0]["asr"]) if ready else []
    table = Table(
        "Leaderboard: mean ASR over the lengths (%), safest first",
        [
            Column("Places", numeric=False),
            Column("Target", numeric=False),
            *map(Column, ("Mean ASR", CI, "Coverage", "Index", CI, *lengths)),
        ],
        [
            (
                marked(_places(*row["ranks"]), row["small"]),
                _named(row),
                percent(row["mean_asr"]["estimate"]),
                interval(row["mean_asr"]["low"], row["mean_asr"]["high"]),
                percent(row["coverage"]),
                "none" if row["safety_index"] is None else f"{row['safety_index']:.4f}",
                "" if row["safety_index"] is None else f"{row['low']:.4f} to {row['high']:.4f}",
                *(f"{100 * row['asr'][length]['estimate']:.0f}" for length in lengths),
            )
            for row in ready
        ],
        "* small sample: few items",
    )
    notes = [f"not ranked: {_named(row)}: {row['unfinished']}" for row in waiting]
    if ready:
        notes = [*_reading(ready), *notes]
    return [*([table] if ready else []), Notes(notes)]


def _reading(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    low = [f"{_named(row)} {percent(row['coverage'])} %" for row in rows if _uncovered(row)]
    careful = f"coverage below {_LEAST_COVERED:.0%} may explain a mean: {', '.join(low)}"
    return [
        "places: all that the differences between targets on the same replies leave open, corrected over all "
        f"pairs of targets, so that they hold together at 95 % confidence; each {CI} is by itself, not "
        "corrected",
        *([careful] if low else []),
        *(f"no Safety Index of {_named(row)}: {show(row['refused'])}" for row in rows if row["refused"]),
    ]


def _named(row: Mapping[str, Any]) -> str:
    return show(row["target"]) + ("" if row["imported_from"] is None else IMPORTED)


def _uncovered(row: Mapping[str, Any]) -> bool:
    return row["coverage"] is None or row["coverage"] < _LEAST_COVERED


def _places(best: int, worst: int) -> str:
    return str(best) if best == worst else f"{best} - {worst}"
