"""How a calibration is announced, and how it ended: its figures, its status, and what to type next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console

from safemt_client.datasets.labelled import LabelledSet
from safemt_client.planning.costs import held_of, held_text, money, spent_of
from safemt_client.planning.plan import Plan
from safemt_client.results.report.sections.calibration import calibrated
from safemt_client.results.report.terminal import show
from safemt_client.results.sanitize import plain, quoted, shown_path, without_secrets
from safemt_client.results.scores.calibrations import calibration, figure_rows
from safemt_client.settings import RunSettings
from safemt_client.telemetry.ending import again
from safemt_client.telemetry.events import RunResult, Status, StopReason

if TYPE_CHECKING:
    from safemt_client.results.store.store import Store

__all__ = ["Judged", "ended", "finish_calibration", "head_of"]

_MOST_WORDS = 200


def head_of(plan: Plan, labelled: LabelledSet, settings: RunSettings) -> str:
    """The first line of a calibration's plan: what is judged, and what of the set is left out."""
    people = {label.annotator for one in labelled.replies for label in one.labels}
    licence = f", licence {plan.run.dataset_licence}" if plan.run.dataset_licence else ""
    left = [
        f"{count:,} {words} left out"
        for count, words in (
            (labelled.unlabelled, "replies that nobody labelled"),
            (labelled.skipped, "rows that the map does not take"),
        )
        if count
    ]
    return (
        f"calibration {plan.run.run_id}: {len(labelled.replies):,} replies of {plain(plan.run.dataset_name)} "
        f"(digest {plan.run.dataset_digest[:12]}{plain(licence)}), labelled by {len(people):,} "
        f"{'person' if len(people) == 1 else 'people'}, store {shown_path(settings.db)}"
        + "".join(f"; {one}" for one in left)
    )


def finish_calibration(
    plan: Plan, ending: StopReason, store: Store, settings: RunSettings, console: Console | None
) -> RunResult:
    """How a session ended; the figures are stored and shown once every reply was put to the judge.

    Those of a part of the replies would be of the ones that came first.
    """
    calibration_id = plan.run.run_id
    replies, unasked, failed, scored = store.query(
        """SELECT count(*), count(*) FILTER (label IS NULL), count(*) FILTER (reason = 'judge_error'),
                  count(*) FILTER (label IN ('safe', 'unsafe'))
           FROM calibrated_replies WHERE calibration_id = ?""",
        [calibration_id],
    ).rows[0]
    if not unasked:
        store.save_now(*figure_rows(store, calibration_id))
        if console is not None:
            show(calibrated(calibration(store, calibration_id)), console)
    look = f"compare judges with:  python -m safemt_client calibrate --list --db {quoted(settings.db)}"
    left = Judged("calibrated_replies", "calibration_id", calibration_id, replies, unasked, failed, scored)
    return ended(left, ending, store, settings, console, f"done; {look}")


@dataclass(frozen=True)
class Judged:
    """How far replies are judged outside of runs: those of `id` in a column of a view.

    Of all `replies` so many are not asked yet, have an error of the judge, or are scored.
    """

    view: str
    column: str
    id: str
    replies: int
    unasked: int
    failed: int
    scored: int


def ended(
    judged: Judged,
    ending: StopReason,
    store: Store,
    settings: RunSettings,
    console: Console | None,
    done: str,
) -> RunResult:
    """The result of a session that judged replies outside of runs, whose last line it prints.

    `done` is that line where nothing is left to ask.
    """
    spent, held = money(spent_of(store, judged.id)), held_of(store, judged.id)
    if settings.max_cost is not None and held:
        spent += f" and {held_text(held, judged.id, settings)}"
    status, why, line = _ended(ending, settings, judged, spent, done)
    if console is not None:
        for said in _errors(store, judged):
            console.print(said, markup=False, soft_wrap=True)
        console.print(line, markup=False, soft_wrap=True)
    misconfigured = bool(ending.misconfigured)
    return RunResult(
        status,
        0 if status == "done" else 2 if misconfigured else 1,
        f"{why}, {spent} spent",
        id=judged.id,
        coverage=judged.scored / judged.replies if judged.replies else None,
        again=judged.unasked + judged.failed > 0 and status != "capped" and not misconfigured,
    )


def _errors(store: Store, judged: Judged) -> list[str]:
    """The commonest error of the judge, in its endpoint's words."""
    rows = store.query(
        f"""SELECT count(*), explanation FROM {judged.view}
            WHERE {judged.column} = ? AND reason = 'judge_error' GROUP BY ALL ORDER BY 1 DESC, 2 LIMIT 1""",
        [judged.id],
    ).rows
    return [
        f"errors of the judge: {number}: {plain(without_secrets(said or 'no reason given'))[:_MOST_WORDS]}"
        for number, said in rows
    ]


def _ended(
    ending: StopReason, settings: RunSettings, judged: Judged, spent: str, done: str
) -> tuple[Status, str, str]:
    """The status, why, and the last line."""
    left = judged.unasked + judged.failed
    go_on = f"{left:,} replies are left; continue with:  {again()}" if left else "nothing is left to ask"
    if ending.interrupted:
        return "stopped", "interrupted", f"interrupted: {go_on}"
    if ending.stopped:
        why = plain(without_secrets(next(iter(ending.stopped.values()))))
        return "stopped", "the judge cannot be asked", f"the judge cannot be asked: {why}: fix that; {go_on}"
    if ending.capped:
        cap = f"--max-cost {money(settings.max_cost or 0)} is reached"
        return "capped", cap, f"{cap}, {spent} spent: raise it to continue; {go_on}"
    if left:
        some = f"{left:,} {'verdict is' if left == 1 else 'verdicts are'} missing"
        return "errors", some, f"{some}: ask for that with:  {again()}"
    return "done", "done", done
