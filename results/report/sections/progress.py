"""The section about targets that are not finished: how far they are, and that nothing is inferred yet."""

from __future__ import annotations

from safemt_client.results.report.data import ReportData
from safemt_client.results.report.document import Block, Column, Notes, Section, Table, count

__all__ = ["progress"]


def progress(known: ReportData) -> Section | None:
    """What is still to come of each target; None where all are finished."""
    rows = [row for row in known.found["unfinished"] if not row["stopped"]]
    if not rows:
        return None
    who = ", ".join(known.target(row["target"]) for row in rows)
    table = Table(
        "Progress of the targets that are not finished (conversations)",
        [
            Column("Target", numeric=False),
            *map(Column, ("Planned", "Ended and judged", "Pending", "Not judged yet")),
        ],
        [
            (
                known.target(row["target"]),
                count(row["planned"]),
                count(row["planned"] - row["pending"] - row["unjudged"]),
                count(row["pending"]),
                count(row["unjudged"]),
            )
            for row in rows
        ],
    )
    said = f"Not finished: {who}. Intervals, trends, indices, differences and ranks follow at the end."
    blocks: list[Block] = [Notes([said], careful=True), table]
    return Section("progress", "Progress", blocks, brief=blocks)
