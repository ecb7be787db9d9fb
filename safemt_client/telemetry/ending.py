"""How a session ended: its status, and the last line, which says what to type next."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console

from safemt_client.planning.costs import held_of, held_text, money, spent_of
from safemt_client.planning.plan import Plan
from safemt_client.results.report.terminal import report
from safemt_client.results.sanitize import quoted
from safemt_client.results.scores.views import coverage_of
from safemt_client.results.store.narrowed import about_run
from safemt_client.results.store.queries import Queryable
from safemt_client.settings import RunSettings
from safemt_client.telemetry.events import RunResult, Status, StopReason
from safemt_client.telemetry.failures import failure_lines
from safemt_client.telemetry.names import shown_names
from safemt_client.telemetry.oddities import odd_lines
from safemt_client.telemetry.stopped import saved_lines

if TYPE_CHECKING:
    from safemt_client.results.store.store import Store

__all__ = ["again", "finish"]


@dataclass(frozen=True)
class _Left:
    """What the same command would ask: turns in an error, turns not asked yet, verdicts that are missing.

    `cut_off` turns ended before any answer began; they are observations and not asked again. `not_sent`
    conversations could not be attempted.
    """

    failed: int
    waiting: int
    unjudged: int
    cut_off: int
    turns: int
    not_sent: int

    @property
    def anything(self) -> bool:
        return self.failed + self.waiting + self.unjudged > 0


@dataclass(frozen=True)
class _Ending:
    status: Status
    exit_status: int
    why: str
    line: str
    again: bool


def finish(
    plan: Plan, ending: StopReason, store: Store, settings: RunSettings, console: Console | None
) -> RunResult:
    """How a session ended; on a console the scores and, in the last line, how to continue."""
    run_id = plan.run.run_id
    with about_run(store, run_id) as about:
        if console is not None:
            report(store, run_id, console, settings.si_rounds, about=about)
            lines = (*odd_lines(plan, store), *failure_lines(plan, about, ending.stopped))
            for said in (*lines, *saved_lines(plan, store)):
                console.print(said, markup=False, soft_wrap=True)
        coverage = None if plan.judge is None else coverage_of(about, run_id, plan.judge.judge_key)
        left = _left(plan, about, store)
    spent = money(spent_of(store, run_id))
    if settings.max_cost is not None and (held := held_of(store, run_id)):
        spent += f" and {held_text(held, run_id, settings)}"
    ended = (
        _early(plan, ending, left, settings, spent)
        or _lacking(left, settings, coverage)
        or _done(left, settings, _stopped(plan, store))
    )
    if console is not None:
        console.print(ended.line, markup=False, soft_wrap=True)
    scored = "" if coverage is None else f", coverage {coverage:.1%}"
    return RunResult(
        ended.status,
        ended.exit_status,
        f"{ended.why}{scored}, {spent} spent",
        id=plan.run.run_id,
        coverage=coverage,
        again=ended.again,
    )


def _left(plan: Plan, about: Queryable, store: Store) -> _Left:
    """What is left of a run; `about` answers about this run alone, and has no texts."""
    judge = None if plan.judge is None else plan.judge.judge_key
    failed, waiting, unjudged, not_sent = about.query(
        """SELECT count(*) FILTER (state IN ('error_transient', 'error_permanent', 'unassessed')),
                  count(*) FILTER (state = 'pending'),
                  count(*) FILTER (judge_key IS NOT NULL AND (state = 'unjudged' OR reason = 'judge_error')),
                  count(*) FILTER (state = 'not_attempted')
           FROM every_conversation WHERE run_id = $1 AND judge_key IS NOT DISTINCT FROM $2
           -- What failed of a stopped target is not asked again.
           AND (target_key NOT IN (SELECT target_key FROM stopped_targets WHERE run_id = $1)
                OR state IN ('unjudged', 'not_attempted') OR reason = 'judge_error')""",
        [plan.run.run_id, judge],
    ).rows[0]
    turns, cut_off = about.query(
        "SELECT count(*), count(*) FILTER (outcome = 'truncated') FROM replies WHERE run_id = ?",
        [plan.run.run_id],
    ).rows[0]
    if cut_off:
        ((cut_off,),) = store.query(
            "SELECT count(*) FROM replies "
            "WHERE run_id = ? AND outcome = 'truncated' AND trim(coalesce(text, '')) = ''",
            [plan.run.run_id],
        ).rows
    # Who only judges stored replies asks no target, whatever state it is in.
    asks = plan.conversations > 0
    return _Left(failed * asks, waiting * asks, unjudged, cut_off, turns, not_sent)


def again() -> str:
    """The same command."""
    return "python -m safemt_client " + " ".join(quoted(word) for word in sys.argv[1:])


def _early(plan: Plan, ending: StopReason, left: _Left, settings: RunSettings, spent: str) -> _Ending | None:
    """The ending of a session in which not everything was asked."""
    go_on = f"stopped early; continue with:  {again()}" if left.anything else "nothing is left to ask"
    if ending.interrupted:
        return _Ending("stopped", 1, "interrupted", f"interrupted: {go_on}", left.anything)
    if ending.stopped:
        shown = shown_names(plan)
        names = {target.key: shown[target.key] for target in plan.targets}
        who = ", ".join(names.get(key, "the judge") for key in ending.stopped)
        line = f"{who} cannot be asked: fix that; {go_on}"
        if names.keys() <= set(ending.misconfigured):
            # Bad input, seen late: a certificate or credentials are missing here.
            return _Ending("stopped", 2, f"{who} cannot be asked", line, False)
        return _Ending("stopped", 1, f"{who} cannot be asked", line, left.anything)
    if ending.capped:
        cap = f"--max-cost {money(settings.max_cost or 0)} is reached"
        least = ""
        if ending.call_usd:
            least = f" (the next call may cost {money(ending.call_usd)}; less with a lower --max-tokens)"
        line = f"{cap}, {spent} spent: raise it to continue{least}; {go_on}"
        return _Ending("capped", 1, cap, line, False)
    return None


def _lacking(left: _Left, settings: RunSettings, coverage: float | None) -> _Ending | None:
    """The ending of a session that asked everything, and did not get enough."""
    failed = f"{left.failed} {'turn' if left.failed == 1 else 'turns'} ended in an error"
    if coverage is not None and coverage < settings.min_coverage:
        below = f"coverage {coverage:.1%} is below --min-coverage {settings.min_coverage:.1%}"
        if left.anything:
            line = f"{below}; ask the failed turns again with:  {again()}"
        else:
            line = f"{below}, and nothing is left to ask: {_final(left)}"
        why = f"below --min-coverage {settings.min_coverage:.1%}"
        return _Ending("low-coverage", 1, why, line, left.anything)
    if left.failed:
        return _Ending("errors", 1, failed, f"{failed}; ask again with:  {again()}", True)
    return None


def _final(left: _Left) -> str:
    """Why turns without a label stay so."""
    if left.not_sent:
        return (
            f"{left.not_sent} conversations could not be attempted (see `reason` in the view conversations)"
        )
    if left.cut_off:
        return _cut_off(left)
    return "what has no label was blocked, empty or not to be judged"


def _cut_off(left: _Left) -> str:
    return (
        f"{left.cut_off} of {left.turns} turns were cut off before any answer, such as while thinking: "
        "raise --max-tokens, which asks all turns anew"
    )


def _stopped(plan: Plan, store: Store) -> str:
    """The names of the targets that are stopped since their rules are decided."""
    stopped, names = store.stopped_targets(plan.run.run_id), shown_names(plan)
    return ", ".join(names[target.key] for target in plan.targets if target.key in stopped)


def _done(left: _Left, settings: RunSettings, stopped: str) -> _Ending:
    sql = '"SELECT target, length, asr FROM asr"'
    look = f"look closer with:  python -m safemt_client sql {sql} --db {quoted(settings.db)}"
    if left.unjudged:
        missing = f"{left.unjudged} {'verdict is' if left.unjudged == 1 else 'verdicts are'} missing"
        line = f"done, but {missing}: ask for that with:  {again()}"
    elif left.cut_off:
        line = f"done, but {_cut_off(left)}"
    elif stopped:
        line = f"stopped: decided ({stopped}); without --stop-when the run goes on; {look}"
    else:
        line = f"done; {look}"
    if stopped:
        return _Ending("decided", 0, "stopped: decided", line, left.anything)
    return _Ending("done", 0, "done", line, left.anything)
