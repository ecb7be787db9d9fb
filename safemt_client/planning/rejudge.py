"""Judge a stored run with another judge, rubric or temperature. No target is asked."""

from __future__ import annotations

import json
import os
from collections.abc import Container, Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC
from typing import TYPE_CHECKING, Any

import anyio

from safemt_client.datasets import images
from safemt_client.datasets.again import find_again
from safemt_client.judges.panel import Judge, Panel
from safemt_client.models import Models
from safemt_client.planning.content import told_apart
from safemt_client.planning.imported import check_imported
from safemt_client.planning.resolved import DataSource, Resolved, Step, StoredReply
from safemt_client.planning.rows import judge_rows
from safemt_client.planning.target import Target
from safemt_client.pricing import prices_of
from safemt_client.providers.errors import InputError
from safemt_client.providers.types import Image, Message, Outcome, Sampling
from safemt_client.results.store.rows import DialogueRow, ModeratorRow, RunRow, StopOrderRow, StopRuleRow
from safemt_client.settings import RunSettings

if TYPE_CHECKING:
    from safemt_client.results.store.store import Store

__all__ = ["resolve_stored", "settings_of_stored", "stored_replies", "stored_run", "targets_of"]


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


async def resolve_stored(settings: RunSettings, models: Models, store: Store, run_id: str) -> Resolved:
    """What is wanted of a stored run that is judged again: its replies are known, nothing else is asked.

    The verdicts make a run of their own over the same turns.

    Raises:
        InputError: a judge or a picture is missing.
    """
    judge = await models.judge()
    assert judge is not None
    if settings.batch and judge.key not in models.batches:
        asked = ", ".join(settings.judge_names)
        raise InputError(f"--batch: no batch API is known for {asked}, or it is a panel: leave it out")
    run, targets = stored_run(store, run_id), targets_of(store, run_id)
    if any(target.imported_from is not None for target in targets):
        check_imported(store, run_id, judge)
    replies = await stored_replies(store, run, targets, judge)
    prices = {key: prices_of(spec, settings) for key, spec in models.judge_specs.items()}
    wanted = Resolved(
        data=DataSource(
            *(run.dataset_name, run.dataset_digest, run.dataset_path, run.dataset_licence),
            content=run.content_digest,
        ),
        dialogues=tuple(DialogueRow(*row) for row in _dialogues(store, run_id)),
        targets=targets,
        settings=json.loads(run.settings) | settings.deciding_labels,
        judge=judge,
        judge_rows=judge_rows(judge, run_id, models.judge_names, prices),
        moderators=tuple(ModeratorRow(*row) for row in _rows(store, ModeratorRow, "run_moderators", run_id)),
        not_attempted=dict(
            store.query(
                "SELECT dialogue_key, not_attempted FROM run_dialogues "
                "WHERE run_id = ? AND not_attempted IS NOT NULL",
                [run_id],
            ).rows
        ),
        replies=replies,
        steps=_steps(store, run_id),
        samples=run.samples or 1,
        judge_batch=settings.batch,
        carried=(
            *(StopRuleRow(*row) for row in _rows(store, StopRuleRow, "stop_rules", run_id)),
            *(StopOrderRow(*row) for row in _rows(store, StopOrderRow, "stop_order", run_id)),
        ),
        stopped=store.stopped_targets(run_id),
    )
    return replace(wanted, apart=told_apart(wanted, store, of_stored=True))


def _dialogues(store: Store, run_id: str) -> list[tuple[Any, ...]]:
    return store.query(
        f"SELECT {_columns(DialogueRow)} FROM dialogues "
        "WHERE dialogue_key IN (SELECT dialogue_key FROM run_dialogues WHERE run_id = ?)",
        [run_id],
    ).rows


def stored_run(store: Store, run_id: str) -> RunRow:
    """The row of a run."""
    return RunRow(*_rows(store, RunRow, "runs", run_id)[0])


def targets_of(store: Store, run_id: str) -> tuple[Target, ...]:
    """The targets of a stored run."""
    rows = store.query(
        "SELECT name, identity, history, images, sampling, sample, prices, moderator, system_prompt, "
        "imported_from, imported_at "
        "FROM run_targets WHERE run_id = ?",
        [run_id],
    ).rows
    return tuple(
        Target(
            *(name, identity, history, sent),
            *(_sampling(sampling), sample, prices and json.loads(prices), moderator),
            system_prompt=system_prompt,
            imported_from=imported_from,
            # Times of the store are UTC.
            imported_at=imported_at and imported_at.replace(tzinfo=UTC),
        )
        for name, identity, history, sent, sampling, sample, prices, moderator, system_prompt, *more in rows
        for imported_from, imported_at in [more]
    )


def _steps(store: Store, run_id: str) -> tuple[Step, ...]:
    rows = store.query(
        "SELECT DISTINCT target_key, dialogue_key, turn, request_hash, coalesce(sample, 1) "
        "FROM steps WHERE run_id = ?",
        [run_id],
    ).rows
    return tuple((target, dialogue, turn, key, sample) for target, dialogue, turn, key, sample in rows)


async def stored_replies(
    store: Store,
    run: RunRow,
    targets: Sequence[Target],
    judge: Judge,
    chosen: Container[tuple[str, str, str]] | None = None,
) -> tuple[StoredReply, ...]:
    """The run's replies with the messages that were sent, and with their pictures for a judge that sees them.

    With `chosen` only those whose judged hash, dialogue and text (its hash) are among these.

    Raises:
        InputError: a picture is missing.
    """
    rows = [
        row
        for row in store.query(
            """SELECT f.target_key, f.dialogue_key, f.request_hash, f.judged_hash, f.outcome, t.request,
                      d.question, d.scenario, f.reply_hash
               FROM replies f JOIN (SELECT DISTINCT ON (dialogue_key) * FROM dialogues) d USING (dialogue_key)
               JOIN (SELECT request_hash, any_value(request) AS request FROM turns GROUP BY ALL) t
                 ON t.request_hash = f.judged_hash
               WHERE f.run_id = ?""",
            [run.run_id],
        ).rows
        if Outcome(row[4]).observed and (chosen is None or (row[3], row[1], row[8]) in chosen)
    ]
    pictures = await _pictures(store, run, targets, judge, [row[5] for row in rows])
    return tuple(
        StoredReply(
            *(target, dialogue, asked, judged),
            *(Outcome(outcome), _messages(request, pictures), question, scenario),
        )
        for target, dialogue, asked, judged, outcome, request, question, scenario, _ in rows
    )


def _messages(request: str, pictures: Mapping[str, Image]) -> tuple[Message, ...]:
    return tuple(
        Message(
            message["role"],
            message["content"],
            tuple(pictures[sha] for sha in message.get("images", ()) if sha in pictures),
        )
        for message in json.loads(request)
    )


async def _pictures(
    store: Store, run: RunRow, targets: Sequence[Target], judge: Judge, requests: Sequence[str]
) -> dict[str, Image]:
    """The images of these requests of a run, by hash, for a judge that sees them: the store has none.

    Raises:
        InputError: one is not where it was, or has changed.
    """
    members = judge.members if isinstance(judge, Panel) else (judge,)
    if all(member.sees != "image" for member in members) or all(t.images == "off" for t in targets):
        return {}
    how = images.Preparation.of(json.loads(run.settings))
    shown = (sha for text in requests for said in json.loads(text) for sha in said.get("images", ()))
    needed = list(dict.fromkeys(shown))
    paths: dict[str, list[str]] = {}
    for sha, path in store.query("SELECT DISTINCT sha256, path FROM images ORDER BY ALL").rows:
        paths.setdefault(sha, []).append(path)
    found: dict[str, Image] = {}
    limiter = anyio.CapacityLimiter(os.cpu_count() or 2)

    def one(sha: str) -> Image | None:
        tried = (find_again(store.path, run.dataset_path, path, sha, how) for path in paths.get(sha, ()))
        return next((image for image in tried if image is not None), None)

    async def keep(sha: str) -> None:
        image = await anyio.to_thread.run_sync(one, sha, limiter=limiter)
        if image is not None:
            found[sha] = image

    async with anyio.create_task_group() as group:
        for sha in needed:
            group.start_soon(keep, sha)
    for sha in needed:
        if sha not in found:
            raise InputError(
                f"{run.dataset_path}: the picture {sha[:12]} is missing or has changed since run "
                f"{run.run_id}: restore it, or use --judge-sees dialogue"
            )
    return found


def _rows(store: Store, kind: type, table: str, run_id: str) -> list[tuple[Any, ...]]:
    return store.query(f"SELECT {_columns(kind)} FROM {table} WHERE run_id = ?", [run_id]).rows


def _columns(kind: type) -> str:
    return ", ".join(field.name for field in fields(kind))


def _sampling(text: str) -> Sampling:
    given = json.loads(text)
    named = {name: given.pop(name, None) for name in ("temperature", "max_tokens", "top_p", "seed")}
    stop = tuple(given.pop("stop", ()))
    return Sampling(**named, extra=given, stop=stop)
