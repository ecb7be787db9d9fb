"""Judge a stored run with another judge, rubric or temperature. No target is asked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from safemt_client import __version__
from safemt_client.datasets import images
from safemt_client.datasets.model import Dataset
from safemt_client.judges.panel import Judge, Panel
from safemt_client.judges.types import JudgeInput
from safemt_client.models import Models, prices_of
from safemt_client.planning.costs import check_prices
from safemt_client.planning.judgings import JudgingTask, submitted, unjudged, with_known
from safemt_client.planning.plan import Plan, run_fingerprint
from safemt_client.planning.rows import judge_rows
from safemt_client.planning.target import Target
from safemt_client.providers.errors import InputError
from safemt_client.providers.types import Image, Message, Outcome, Sampling
from safemt_client.results.store.rows import DialogueRow, ModeratorRow, RunRow, StepRow
from safemt_client.results.store.store import Store
from safemt_client.settings import RunSettings

__all__ = ["plan_rejudging", "settings_of_stored"]


def settings_of_stored(settings: RunSettings, store: Store, run_id: str) -> RunSettings:
    """The settings of a new judging with the targets of the stored run.

    Raises:
        InputError: no judge is named.
    """
    names = [row[0] for row in store.query("SELECT name FROM run_targets WHERE run_id = ?", [run_id]).rows]
    found = settings.model_copy(update={"provider": names})
    if not found.judge_names:
        raise InputError("--judge none: name the judge to use, such as --judge gpt-4o-mini")
    return found


def plan_rejudging(settings: RunSettings, models: Models, store: Store, run_id: str) -> tuple[Plan, Judge]:
    """The plan of judging a stored run again; the verdicts make a run of their own over the same turns.

    Raises:
        InputError: a judge, a price or a picture is missing.
    """
    judge = models.judge()
    assert judge is not None
    plan = _plan(store, run_id, judge, settings)
    prices = {key: prices_of(spec, settings) for key, spec in models.judge_specs.items()}
    rows = judge_rows(judge, plan.run.run_id, models.judge_names, prices)
    if settings.batch and judge.key not in models.batches:
        asked = ", ".join(settings.judge_names)
        raise InputError(f"--batch: no batch API of {asked} is known, or it is a panel: leave it out")
    plan = replace(
        plan,
        judge=rows[0],
        members=rows[1:],
        judge_batch=settings.batch,
        submitted=submitted((), plan.judgings, judge, store),
    )
    # The judges alone are asked.
    check_prices(replace(plan, targets=(), moderators=()), settings)
    return plan, judge


def _plan(store: Store, run_id: str, judge: Judge, settings: RunSettings) -> Plan:
    """The plan of the stored run with nothing to ask and every final reply to judge."""
    old = RunRow(*_rows(store, RunRow, "runs", run_id)[0])
    dialogues = tuple(
        DialogueRow(*row)
        for row in store.query(
            f"SELECT {_columns(DialogueRow)} FROM dialogues "
            "WHERE dialogue_key IN (SELECT dialogue_key FROM run_dialogues WHERE run_id = ?)",
            [run_id],
        ).rows
    )
    targets = tuple(
        Target(
            *(name, identity, history, images_),
            *(_sampling(sampling), sample, prices and json.loads(prices), moderator),
        )
        for name, identity, history, images_, sampling, sample, prices, moderator in store.query(
            "SELECT name, identity, history, images, sampling, sample, prices, moderator FROM run_targets "
            "WHERE run_id = ?",
            [run_id],
        ).rows
    )
    fingerprint = run_fingerprint(
        old.dataset_digest, [row.dialogue_key for row in dialogues], [t.key for t in targets], judge
    )
    new_id = fingerprint[:12]
    settings_now = json.loads(old.settings) | settings.deciding_labels
    run = replace(
        old,
        run_id=new_id,
        fingerprint=fingerprint,
        created_at=datetime.now(UTC),
        program_version=__version__,
        settings=json.dumps(settings_now, sort_keys=True),
    )
    replies = store.query(
        """SELECT f.target_key, f.dialogue_key, f.judged_hash, f.outcome, f.text, t.request,
                  d.question, d.scenario
           FROM replies f JOIN (SELECT DISTINCT ON (dialogue_key) * FROM dialogues) d USING (dialogue_key)
           JOIN (SELECT request_hash, any_value(request) AS request FROM turns GROUP BY ALL) t
             ON t.request_hash = f.judged_hash
           WHERE f.run_id = ?""",
        [run_id],
    ).rows
    pictures = _pictures(store, old, targets, judge)
    done = [_judging(*row, pictures=pictures) for row in replies if Outcome(row[3]).observed]
    missing = unjudged([(j.request_hash, j.dialogue_key, j.reply_hash) for j in done], judge, store)
    judgings = tuple(j for j in done if (j.request_hash, j.dialogue_key, j.reply_hash) in missing)
    if isinstance(judge, Panel):
        judgings = with_known(judgings, judge, store)
    steps = tuple(
        StepRow(new_id, *row)
        for row in store.query(
            "SELECT DISTINCT target_key, dialogue_key, turn, request_hash FROM steps WHERE run_id = ?",
            [run_id],
        ).rows
    )
    return Plan(
        run=run,
        warnings=0,
        targets=targets,
        judge=None,
        dialogues=dialogues,
        not_attempted=dict(
            store.query(
                "SELECT dialogue_key, not_attempted FROM run_dialogues "
                "WHERE run_id = ? AND not_attempted IS NOT NULL",
                [run_id],
            ).rows
        ),
        pending=(),
        judgings=judgings,
        steps=steps,
        cached_turns={t.key: sum(1 for step in steps if step.target_key == t.key) for t in targets},
        cached_verdicts=len(done) - len(judgings),
        moderators=tuple(
            replace(ModeratorRow(*row), run_id=new_id)
            for row in _rows(store, ModeratorRow, "run_moderators", run_id)
        ),
    )


def _judging(
    target_key: str,
    dialogue_key: str,
    request_hash: str,
    outcome: str,
    text: str,
    request: str,
    question: str | None,
    scenario: str | None,
    *,
    pictures: Mapping[str, Image],
) -> JudgingTask:
    messages = tuple(
        Message(
            message["role"],
            message["content"],
            tuple(pictures[sha] for sha in message.get("images", ()) if sha in pictures),
        )
        for message in json.loads(request)
    )
    subject = JudgeInput(
        question=question or messages[-1].text, messages=messages, reply=text, scenario=scenario
    )
    return JudgingTask(subject, Outcome(outcome), request_hash, dialogue_key, target_key)


def _pictures(store: Store, run: RunRow, targets: Sequence[Target], judge: Judge) -> dict[str, Image]:
    """The run's images as they were sent, by hash, for a judge that sees them; the store does not keep them.

    Raises:
        InputError: one is not where it was, or has changed.
    """
    members = judge.members if isinstance(judge, Panel) else (judge,)
    if all(member.sees != "image" for member in members) or all(t.images == "off" for t in targets):
        return {}
    # Its dialogues are in the store; what is needed here is where its images are.
    dataset = Dataset(run.dataset_name, Path(run.dataset_path), (), links_to=(Path("/"),))
    given = json.loads(run.settings)
    blank = any(target.images == "blank" for target in targets)
    found: dict[str, Image] = {}
    for sha, path in store.query("SELECT DISTINCT sha256, path FROM images").rows:
        try:
            image = images.prepare(
                dataset.image_path(path),
                max_edge=given.get("image_max_edge") or images.DEFAULT_MAX_EDGE,
                max_bytes=given.get("image_max_bytes") or images.DEFAULT_MAX_BYTES,
                item=path,
            )
        except InputError:
            continue  # of another data set in this store, or gone: told below if this run needs it
        image = images.blank(image) if blank else image
        if image.sha256 == sha:
            found[sha] = image
    needed = store.query(
        "SELECT request FROM turns SEMI JOIN (SELECT request_hash FROM steps WHERE run_id = ?) s "
        "USING (request_hash)",
        [run.run_id],
    ).rows
    for (request,) in needed:
        for message in json.loads(request):
            for sha in message.get("images", ()):
                if sha not in found:
                    raise InputError(
                        f"{run.dataset_path}: the picture {sha[:12]} is gone or has changed since run "
                        f"{run.run_id}: restore it, or take --judge-sees dialogue"
                    )
    return found


def _rows(store: Store, kind: type, table: str, run_id: str) -> list[tuple[Any, ...]]:
    return store.query(f"SELECT {_columns(kind)} FROM {table} WHERE run_id = ?", [run_id]).rows


def _columns(kind: type) -> str:
    return ", ".join(field.name for field in fields(kind))


def _sampling(text: str) -> Sampling:
    given = json.loads(text)
    named = {name: given.pop(name, None) for name in ("temperature", "max_tokens", "top_p", "seed")}
    return Sampling(**named, extra=given)
