"""How a check is announced, and how it ended: the rates that it gives, its status, and what to type next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from safemt_client.planning.adaptive import Check
from safemt_client.planning.plan import Plan
from safemt_client.results.report.sections.checks import check_blocks
from safemt_client.results.report.terminal import show
from safemt_client.results.sanitize import plain, shown_path
from safemt_client.results.scores.checks import checks
from safemt_client.settings import RunSettings
from safemt_client.telemetry.calibrated import Judged, ended
from safemt_client.telemetry.events import RunResult, StopReason

if TYPE_CHECKING:
    from safemt_client.results.store.store import Store

__all__ = ["finish_check", "head_of_check"]


def head_of_check(plan: Plan, check: Check, settings: RunSettings) -> str:
    """The first line of a check's plan: whom it asks about how many replies, and how they are drawn."""
    count, every = len(check.draw.chosen), len(check.draw.replies)
    return (
        f"check {plan.run.run_id} of run {check.run_id}: {plain(check.reference.name)} is asked about "
        f"{count:,} of {every:,} replies that {plain(check.judge.name)} has judged, most where it may be "
        f"wrong (by {check.draw.basis}), store {shown_path(settings.db)}"
    )


def finish_check(
    plan: Plan, ending: StopReason, store: Store, settings: RunSettings, console: Console | None
) -> RunResult:
    """How a session ended; the rates are shown once every reply was put to the judge.

    Those of a part would be of the replies that were answered first.
    """
    draw_id = plan.run.run_id
    run_id, replies, unasked, failed, scored = store.query(
        """SELECT any_value(run_id), count(*), count(*) FILTER (label IS NULL),
                  count(*) FILTER (reason = 'judge_error'), count(*) FILTER (label IN ('safe', 'unsafe'))
           FROM drawn_labels WHERE draw_id = ?""",
        [draw_id],
    ).rows[0]
    if not unasked and not failed and console is not None:
        for found in checks(store, run_id):
            if found["draw_id"] == draw_id:
                show(check_blocks(found), console)
    left = Judged("drawn_labels", "draw_id", draw_id, replies, unasked, failed, scored)
    return ended(left, ending, store, settings, console, f"done; report --run {run_id} shows it too")
