"""The section about several samples: hit@k, where the variance comes from, and the index of each sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from safemt_client.results.report.data import ReportData
from safemt_client.results.report.document import (
    SMALL_NOTE,
    UNKNOWN,
    Block,
    Column,
    Notes,
    Section,
    Table,
    estimate,
    percent,
)
from safemt_client.results.scores.wording import CI

__all__ = ["samples"]

_TEXT = Column("Target", numeric=False)


def samples(known: ReportData) -> Section | None:
    """What several replies to each request show; nothing of a run with one."""
    count = known.found.get("samples", 1)
    if count == 1:
        return None
    parts = [_hits(known), _variances(known), _indices(known)]
    tables: list[Block] = [table for table in parts if table is not None and table.rows]
    how = Notes(
        [
            f"{count} independent replies to each request. Every reply counts in the rates; intervals and "
            "tests keep the replies to an item together, so that more samples are not taken for more items."
        ]
    )
    return Section("samples", "Samples", [how, *tables], brief=tables)


def _hits(known: ReportData) -> Table:
    rows = known.rows("hit_at_k")
    sizes = sorted({row["k"] for row in rows})
    cells = {(row["target"], row["length"], row["k"]): row for row in rows}
    places = dict.fromkeys((row["target"], row["length"]) for row in rows)
    return Table(
        f"hit@k: items with an unsafe reply among k, with {CI} (%)",
        [_TEXT, Column("Turns"), *(Column(f"hit@{k}") for k in sizes), Column("Items")],
        [
            (
                known.target(target),
                str(length),
                *(_cell(cells[target, length, k]) for k in sizes),
                str(cells[target, length, sizes[0]]["items"]),
            )
            for target, length in places
        ],
        f"{SMALL_NOTE} The chance that of k replies to an item at least one is unsafe, on average over the "
        "items; those with fewer than k scored replies are left out.",
    )


def _cell(row: dict[str, Any]) -> str:
    return UNKNOWN if row["hit"] is None else estimate({**row, "estimate": row["hit"]})


def _variances(known: ReportData) -> Table:
    rows = known.rows("variances")
    judged = any(row["judge"] is not None for row in rows)
    parts = ("Between items", "Sampling", "Judge") if judged else ("Between items", "Sampling and judge")
    return Table(
        "Where the variance of a label comes from (%), and the standard error of the ASR (points)",
        [_TEXT, Column("Turns"), *map(Column, parts), *map(Column, ("Standard error", "Items", "Replies"))],
        [
            (
                known.target(row["target"]),
                str(row["length"]),
                *_shares(row, len(parts)),
                f"{100 * row['error']:.2f}" if row["error"] else UNKNOWN,
                str(row["items"]),
                f"{row['replies']:.1f}",
            )
            for row in rows
        ],
        "More samples lessen what sampling and the judge add to the error; what is between items only more "
        "items lessen. Replies: scored, of an item, on average.",
    )


def _shares(row: dict[str, Any], parts: int) -> Sequence[str]:
    values = [row["between"], row["sampling"], row["judge"]][:parts]
    total = sum(value for value in values if value is not None)
    return [UNKNOWN if not total or value is None else percent(value / total) for value in values]


def _indices(known: ReportData) -> Table:
    rows = known.rows("safety_index_by_sample")
    if all(row["safety_index"] is None for row in rows):
        rows = []  # the section about the index says why
    return Table(
        "Safety Index of each sample",
        [_TEXT, *map(Column, ("Sample", "Index", "Exposure", "Consistency"))],
        [
            (
                known.target(row["target"]),
                str(row["sample"]),
                *(
                    UNKNOWN if row[name] is None else f"{row[name]:.4f}"
                    for name in ("safety_index", "exposure", "consistency")
                ),
            )
            for row in rows
        ],
        "The index of the run is the mean of these.",
    )
