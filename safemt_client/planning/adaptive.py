"""What is wanted of a stronger judge that labels a part of a run's replies, most where its judge may err."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from safemt_client.models import Models
from safemt_client.planning.costs import stored_prices
from safemt_client.planning.imported import check_imported
from safemt_client.planning.plan import Plan
from safemt_client.planning.rejudge import stored_replies, stored_run, targets_of
from safemt_client.planning.resolved import DataSource, Resolved
from safemt_client.planning.rows import judge_rows
from safemt_client.planning.target import digest_of
from safemt_client.pricing import prices_of
from safemt_client.providers.errors import InputError
from safemt_client.results.scores.checks import complete_draws
from safemt_client.results.scores.drawing import (
    Drawn,
    calibrated_errors,
    chances_of,
    drawables,
    drawn,
    errors_seen,
    finished,
    replies_of,
)
from safemt_client.results.scores.inclusion import Key
from safemt_client.results.store.rows import DrawRow, JudgeRow
from safemt_client.settings import RunSettings

if TYPE_CHECKING:
    from safemt_client.results.store.store import Store

__all__ = ["Check", "resolve_check"]


@dataclass(frozen=True)
class Check:
    """What a check asks for, and of which run: `reference` labels what was drawn of what `judge` labelled."""

    wanted: Resolved
    run_id: str
    judge: JudgeRow
    reference: JudgeRow
    draw: Drawn
    asked: int

    def row(self, plan: Plan) -> DrawRow:
        """Its row."""
        run = plan.run
        return DrawRow(
            *(run.run_id, run.fingerprint, run.created_at, run.program_version, self.run_id),
            judge_key=self.judge.judge_key,
            wanted=self.asked,
            reference_key=self.reference.judge_key,
            basis=self.draw.basis,
        )


async def resolve_check(settings: RunSettings, models: Models, store: Store, run_id: str, size: int) -> Check:
    """What is wanted: a verdict of each reply of a sample. Nothing is sent.

    Raises:
        InputError: the judge is the run's own, there is nothing to draw from, or a picture is missing.
    """
    judge, row = await models.judge(), _deciding(store, run_id)
    assert judge is not None
    if judge.key == row.judge_key:
        raise InputError(
            f"--adaptive: {row.name} is the judge of run {run_id}: name a stronger one with --judge, "
            "or ask it again with --anchor"
        )
    if settings.batch and judge.key not in models.batches:
        asked = ", ".join(settings.judge_names)
        raise InputError(f"--batch: no batch API is known for {asked}, or it is a panel: leave it out")
    run, targets = stored_run(store, run_id), targets_of(store, run_id)
    if any(target.imported_from is not None for target in targets):
        check_imported(store, run_id, judge)
    wanted = Resolved(
        data=DataSource(run.dataset_name, run.dataset_digest, run.dataset_path, run.dataset_licence),
        dialogues=(),
        targets=(),
        settings=settings.deciding_labels,
        judge=judge,
        judge_batch=settings.batch,
        apart=digest_of(["draw", run_id, row.judge_key, size]),
    )
    draw = _draw(store, run_id, row, judge.key, size, wanted.run_id)
    chosen = {(one.judged_hash, one.dialogue_key, one.reply_hash): one.place for one in draw.chosen}
    found = await stored_replies(store, run, targets, judge, chosen)
    # In the order of the draw; a reply that targets share is asked about once.
    once = {(reply.judged_hash, reply.dialogue_key): reply for reply in found}
    order = {(key[0], key[1]): place for key, place in chosen.items()}
    replies = sorted(once.values(), key=lambda one: order[one.judged_hash, one.dialogue_key] or 0)
    snapshot = stored_prices(store, wanted.run_id)
    prices = {key: prices_of(spec, settings, snapshot, key) for key, spec in models.judge_specs.items()}
    rows = judge_rows(judge, wanted.run_id, models.judge_names, prices)
    wanted = replace(wanted, judge_rows=rows, replies=tuple(replies))
    return Check(wanted, run_id, row, rows[0], draw, size)


def _deciding(store: Store, run_id: str) -> JudgeRow:
    columns = ", ".join(f"j.{field.name}" for field in fields(JudgeRow))
    rows = store.query(
        f"SELECT {columns} FROM run_judges j JOIN deciding_judges d USING (run_id, judge_key) "
        "WHERE j.run_id = ?",
        [run_id],
    ).rows
    if not rows:
        raise InputError(f"run {run_id}: has no judge to check: judge it first, with judge --judge NAME")
    return JudgeRow(*rows[0])


def _draw(store: Store, run_id: str, row: JudgeRow, reference: str, size: int, draw_id: str) -> Drawn:
    """The stored draw of this id, or a new one."""
    if stored := replies_of(store, draw_id):
        basis = store.query("SELECT any_value(basis) FROM label_draws WHERE draw_id = ?", [draw_id]).rows
        return Drawn(stored, str(basis[0][0]))
    finished(store, run_id)
    replies = drawables(store, run_id, row.judge_key)
    if not replies:
        raise InputError(f"run {run_id}: {row.name} has labelled no reply yet: judge it first")
    calibrated = calibrated_errors(store, row.judge_key)
    errors = errors_seen(replies, _labels(store, reference), "the stronger judge", calibrated)
    before = chances_of(store, complete_draws(store, run_id, row.judge_key, reference))
    found = drawn(replies, errors, size, before, f"judge {reference}")
    return replace(found, replies=tuple(replace(one, draw_id=draw_id) for one in found.replies))


def _labels(store: Store, reference: str) -> Mapping[Key, str]:
    """What the stronger judge has said of replies that were drawn for it."""
    rows = store.query(
        """SELECT DISTINCT r.request_hash, r.dialogue_key, r.reply_hash, v.label
           FROM drawn_replies r JOIN label_draws d USING (draw_id)
           JOIN final_verdicts v ON v.judge_key = d.reference_key AND v.request_hash = r.judged_hash
            AND v.dialogue_key = r.dialogue_key AND v.reply_hash = r.reply_hash
           WHERE d.reference_key = ? AND r.place IS NOT NULL AND v.label IN ('safe', 'unsafe')""",
        [reference],
    ).rows
    return {(asked, dialogue, said): label for asked, dialogue, said, label in rows}
