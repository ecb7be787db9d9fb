"""The section about the rules that a run stops by, with the intervals that hold at every look."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from safemt_client.results.report.data import ReportData
from safemt_client.results.report.document import UNKNOWN, Block, Column, Notes, Section, Table, count, show
from safemt_client.results.scores.rules import read_stop_rule
from safemt_client.results.scores.wording import CI

__all__ = ["stopping"]


def stopping(known: ReportData) -> Section | None:
    """Each rule with its confidence sequence, and what is not given of a stopped run; None without rules."""
    rows = known.found["stop_rules"]
    if not rows:
        return None
    table = Table(
        "Rules that end the run, each with its confidence sequence",
        [
            Column("Target", numeric=False),
            Column("Rule", numeric=False),
            Column("Is", numeric=False),
            *map(Column, ("Estimate", "Sequence", "Level", "Items", "Decided after")),
        ],
        [(known.target(row["target"]), show(row["rule"]), *_row(row)) for row in rows],
        "Sequence: an interval that holds at every look at once, along the order that was drawn; level: the "
        "chance that it does. Items: those looked at, of all that the rule is about.",
    )
    blocks: list[Block] = [table]
    stopped = [row["target"] for row in known.found["unfinished"] if row["stopped"]]
    if stopped:
        who = ", ".join(known.target(target) for target in stopped)
        said = (
            f"Stopped when its rules were decided: {who}. Its estimates are those of a stopped run: rates by "
            f"number of turns have a confidence sequence as their {CI}; other intervals, trends, indices, "
            "differences and ranks are not given, as they would be for a fixed number of items."
        )
        blocks.insert(0, Notes([said]))
    return Section("stopping", "Rules that end the run", blocks, brief=blocks)


def _row(row: Mapping[str, Any]) -> tuple[str, ...]:
    unit = " points" if read_stop_rule(row["rule"]).quantity == "targets" else " %"
    estimate = UNKNOWN if row["estimate"] is None else f"{100 * row['estimate']:.1f}{unit}"
    state = row["state"] + (", alpha spent anew" if row["anew"] else "")
    return (
        state,
        estimate,
        f"{100 * row['low']:.1f} to {100 * row['high']:.1f}",
        f"{100 * (1 - row['alpha']):.4g} %",
        f"{count(row['items'])} of {count(row['population'])}",
        UNKNOWN if row["decided_at"] is None else count(row["decided_at"]),
    )
