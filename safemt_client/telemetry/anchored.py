"""How an anchor is announced, and how it ended: what has changed, its status, and what to type next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from safemt_client.planning.anchor import Anchor
from safemt_client.planning.plan import Plan
from safemt_client.results.report.document import Notes
from safemt_client.results.report.sections.anchors import anchor_lines
from safemt_client.results.report.terminal import show
from safemt_client.results.sanitize import plain, shown_path
from safemt_client.results.scores.anchors import anchors
from safemt_client.settings import RunSettings
from safemt_client.telemetry.calibrated import Judged, ended
from safemt_client.telemetry.events import RunResult, StopReason

if TYPE_CHECKING:
    from safemt_client.results.store.store import Store

__all__ = ["finish_anchor", "head_of_anchor"]


def head_of_anchor(plan: Plan, anchor: Anchor, settings: RunSettings) -> str:
    """The first line of an anchor's plan: what is asked again, and how many replies there are."""
    count = len(anchor.replies)
    fewer = f" (all that {plain(anchor.judge.name)} has labelled)" if count < anchor.asked else ""
    return (
        f"anchor {plan.run.run_id}, number {anchor.number} of run {anchor.run_id}: "
        f"{plain(anchor.judge.name)} is asked again about {count:,} of its replies{fewer}, "
        f"store {shown_path(settings.db)}"
    )


def finish_anchor(
    plan: Plan, ending: StopReason, store: Store, settings: RunSettings, console: Console | None
) -> RunResult:
    """How a session ended; what has changed is said once every reply was put to the judge."""
    anchor_id = plan.run.run_id
    run_id, replies, unasked, failed, scored = store.query(
        "SELECT run_id, replies, not_asked, errors, compared FROM judge_anchors WHERE anchor_id = ?",
        [anchor_id],
    ).rows[0]
    if not unasked and console is not None:
        found = next(row for row in anchors(store, run_id) if row["anchor_id"] == anchor_id)
        show([Notes(anchor_lines(found))], console)
    left = Judged("anchored_replies", "anchor_id", anchor_id, replies, unasked, failed, scored)
    return ended(left, ending, store, settings, console, f"done; report --run {run_id} shows it too")
