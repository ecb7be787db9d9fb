"""What is wanted of an anchor: the judge of a run, asked again about replies that it has judged before."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from safemt_client.judges.panel import Judge, Panel
from safemt_client.models import Models
from safemt_client.planning.costs import stored_prices
from safemt_client.planning.imported import check_imported
from safemt_client.planning.plan import Plan
from safemt_client.planning.rejudge import stored_replies, stored_run, targets_of
from safemt_client.planning.resolved import DataSource, Resolved
from safemt_client.planning.rows import judge_rows
from safemt_client.planning.sampling import place_of
from safemt_client.planning.target import digest_of
from safemt_client.pricing import prices_of
from safemt_client.providers.errors import InputError
from safemt_client.results.store.rows import AnchorReplyRow, AnchorRow, JudgeRow
from safemt_client.settings import RunSettings, options

if TYPE_CHECKING:
    from safemt_client.results.store.store import Store

__all__ = ["Anchor", "Repeats", "repeats_of", "resolve_anchor", "settings_of_anchor"]

CONTINUED_FOR = timedelta(days=3)
"""So long after its beginning an anchor that was stopped goes on: what comes later is of another date."""
_SEED = 0


@dataclass(frozen=True)
class Anchor:
    """What an anchor asks for, and of which run; `replies` are its sample as the store keeps it."""

    wanted: Resolved
    run_id: str
    judge: JudgeRow
    number: int
    asked: int
    replies: tuple[AnchorReplyRow, ...]

    def row(self, plan: Plan) -> AnchorRow:
        """Its row."""
        assert plan.judge is not None
        run = plan.run
        return AnchorRow(
            *(run.run_id, run.fingerprint, run.created_at, run.program_version, self.run_id),
            number=self.number,
            wanted=self.asked,
            judge_key=self.judge.judge_key,
            anchor_key=plan.judge.judge_key,
        )


def settings_of_anchor(settings: RunSettings, store: Store, run_id: str) -> RunSettings:
    """The settings with the run's judge where they say nothing of it.

    Raises:
        InputError: the run has no judge that could be asked.
    """
    row = _judge_of(store, run_id)
    kept = json.loads(stored_run(store, run_id).settings)
    names = [name for name, option in options("judge").items() if option.decides]
    names += ["controversial", "guard_template", "guard_option", "providers"]
    stored = {name: kept[name] for name in names if name in kept}
    try:
        before = RunSettings.model_validate({"provider": ["stored"], "data": "stored"} | stored)
    except ValidationError:
        # Of another version: what is not said then has its default, which is compared with the run's judge.
        before = settings
    found = {name: getattr(before, name) for name in names if name not in settings.model_fields_set}
    found["providers"] = before.providers | settings.providers
    known = settings.model_copy(update=found)
    if not known.judge_names:
        raise InputError(f"--judge none: --anchor asks the run's own judge, {row.name}: leave it out")
    return known


@dataclass(frozen=True)
class Repeats:
    """How many replies of a run its judge has labelled, and the anchors of all of them that are done."""

    replies: int
    done: tuple[str, ...]


def repeats_of(store: Store, run_id: str) -> Repeats:
    """How often the judge of a run has been asked about all of its replies again.

    Raises:
        InputError: it has no judge that can be asked, or no labels.
    """
    row = _judge_of(store, run_id)
    replies = len(_sample(store, row, None))
    if not replies:
        raise InputError(f"run {run_id}: {row.name} has labelled no reply yet: judge it first")
    done = store.query(
        """SELECT anchor_id FROM judge_anchors
           WHERE run_id = ? AND judge_key = ? AND replies = ? AND not_asked + errors = 0 ORDER BY number""",
        [run_id, row.judge_key, replies],
    ).rows
    return Repeats(replies, tuple(str(anchor_id) for (anchor_id,) in done))


def _judge_of(store: Store, run_id: str) -> JudgeRow:
    """The judge whose labels count in the run.

    Raises:
        InputError: there is none, or nobody can ask it.
    """
    columns = ", ".join(f"j.{field.name}" for field in fields(JudgeRow))
    rows = store.query(
        f"SELECT {columns} FROM run_judges j JOIN deciding_judges d USING (run_id, judge_key) "
        "WHERE j.run_id = ?",
        [run_id],
    ).rows
    if not rows:
        raise InputError(f"run {run_id}: has no judge to ask again: judge it first, with judge --judge NAME")
    row = JudgeRow(*rows[0])
    if row.imported_from is not None:
        raise InputError(
            f"run {run_id}: its labels are imported and nobody can ask for them again: "
            "judge it first, with judge --judge NAME"
        )
    return row


async def resolve_anchor(
    settings: RunSettings, models: Models, store: Store, run_id: str, replies: int
) -> Anchor:
    """What is wanted: a verdict of each reply of a fixed sample of so many. Nothing is sent.

    Raises:
        InputError: the judge cannot be asked as it was, it has labelled nothing, or a picture is missing.
    """
    judge, row = await models.judge(), _judge_of(store, run_id)
    assert judge is not None
    _check_same(judge, row, run_id)
    if settings.batch and judge.key not in models.batches:
        raise InputError(f"--batch: no batch API is known for {row.name}, or it is a panel: leave it out")
    number, begun = _number(store, run_id, row.judge_key, replies)
    run, targets = stored_run(store, run_id), targets_of(store, run_id)
    if any(target.imported_from is not None for target in targets):
        check_imported(store, run_id, judge)
    judge = _apart(models, judge, digest_of(["anchor", run_id, number]))
    sample = begun or _sample(store, row, replies)
    if not sample:
        raise InputError(f"run {run_id}: {row.name} has labelled no reply yet: judge it first")
    chosen = {(one.judged_hash, one.dialogue_key, one.reply_hash): one.request_hash for one in sample}
    found = {
        (reply.judged_hash, reply.dialogue_key): replace(
            reply, judged_hash=_kept_under(reply.judged_hash, reply.dialogue_key)
        )
        for reply in await stored_replies(store, run, targets, judge, chosen)
    }
    wanted = Resolved(
        data=DataSource(run.dataset_name, run.dataset_digest, run.dataset_path, run.dataset_licence),
        dialogues=(),
        targets=(),
        settings=settings.deciding_labels,
        judge=judge,
        replies=tuple(found.values()),
        judge_batch=settings.batch,
        apart=digest_of(["anchor", run_id, number, replies]),
    )
    snapshot = stored_prices(store, wanted.run_id)
    prices = {key: prices_of(spec, settings, snapshot, key) for key, spec in models.judge_specs.items()}
    rows = judge_rows(judge, wanted.run_id, models.judge_names, prices)
    sample = tuple(replace(one, anchor_id=wanted.run_id) for one in sample)
    return Anchor(replace(wanted, judge_rows=rows), run_id, row, number, replies, sample)


def _check_same(judge: Judge, row: JudgeRow, run_id: str) -> None:
    """Make sure that this is the judge of the run, with the same words and the same sampling.

    Raises:
        InputError: it is another one.
    """
    if judge.key == row.judge_key:
        return
    sampling = "{}" if isinstance(judge, Panel) else json.dumps(judge.sampling.as_dict(), sort_keys=True)
    parts = {
        "model": judge.identity == row.identity,
        "rubric": judge.rubric.hash == row.rubric_hash,
        "sampling": sampling == row.sampling,
    }
    other = [name for name, same in parts.items() if not same] or ["members, prompt or view of the dialogue"]
    raise InputError(
        f"--anchor: {row.name}, the judge of run {run_id}, would be another judge now: its "
        f"{' and '.join(other)} would differ: leave options of judges out, and restore what they name"
    )


def _number(
    store: Store, run_id: str, judge_key: str, replies: int
) -> tuple[int, tuple[AnchorReplyRow, ...]]:
    """Which anchor of the run and judge this is; with the sample of one that goes on."""
    rows = store.query(
        """SELECT anchor_id, number, wanted, created_at, not_asked + errors FROM judge_anchors
           WHERE run_id = ? AND judge_key = ? ORDER BY number""",
        [run_id, judge_key],
    ).rows
    if not rows:
        return 1, ()
    since = datetime.now(UTC).replace(tzinfo=None) - CONTINUED_FOR
    for anchor_id, number, wanted, created_at, missing in rows:
        if missing and wanted == replies and created_at > since:
            columns = ", ".join(field.name for field in fields(AnchorReplyRow))
            found = store.query(
                f"SELECT {columns} FROM anchor_replies WHERE anchor_id = ? ORDER BY place", [anchor_id]
            ).rows
            return number, tuple(AnchorReplyRow(*row) for row in found)
    return rows[-1][1] + 1, ()


def _sample(store: Store, row: JudgeRow, replies: int | None) -> tuple[AnchorReplyRow, ...]:
    """The first replies in a fixed order of all that the judge has labelled; one of each that is shared."""
    rows = store.query(
        """SELECT DISTINCT ON (v.verdict_hash, v.reply_hash)
                  v.verdict_hash, v.request_hash, v.dialogue_key, v.reply_hash, v.label,
                  -- Of a verdict that was taken over: when the judge gave it.
                  least(v.recorded_at, g.given)
           FROM replies r JOIN final_verdicts v
             ON v.judge_key = $1 AND v.request_hash = r.judged_hash AND v.dialogue_key = r.dialogue_key
            AND v.reply_hash = r.reply_hash
           LEFT JOIN (SELECT verdict_hash, reply_hash, max(recorded_at) AS given FROM verdicts
                      WHERE judge_key = $1 AND taken_from IS NULL AND label IN ('safe', 'unsafe')
                      GROUP BY ALL) g
             ON g.verdict_hash = v.verdict_hash AND g.reply_hash = v.reply_hash
           WHERE r.run_id = $2 AND v.label IN ('safe', 'unsafe') AND v.imported_from IS NULL
           ORDER BY v.recorded_at, v.request_hash, v.dialogue_key""",
        [row.judge_key, row.run_id],
    ).rows
    rows.sort(key=_place)
    return tuple(
        AnchorReplyRow("", place, _kept_under(judged, dialogue), judged, dialogue, said, label, at)
        for place, (_, judged, dialogue, said, label, at) in enumerate(rows[:replies], start=1)
    )


def _place(row: Sequence[Any]) -> bytes:
    return place_of(_SEED, f"{row[0]} {row[3]}")


def _kept_under(judged_hash: str, dialogue_key: str) -> str:
    """What an anchor's verdict of a reply is kept under, apart from those of runs."""
    return digest_of(["anchored", judged_hash, dialogue_key])


def _apart(models: Models, judge: Judge, occasion: str) -> Judge:
    """The judge on this occasion, under the names, addresses and accounts that it has without one."""
    again = judge.on(occasion)
    pairs: list[tuple[Judge, Judge]] = [(judge, again)]
    if isinstance(judge, Panel) and isinstance(again, Panel):
        pairs += zip(judge.members, again.members, strict=True)
    tables: list[dict[str, Any]] = [models.judge_names, models.judge_specs, models.accounts, models.batches]
    for table in tables:
        for before, after in pairs:
            if before.key in table:
                table[after.key] = table.pop(before.key)
    return again
