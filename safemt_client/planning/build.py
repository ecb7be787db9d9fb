"""From settings, data and the store to a plan. Nothing is sent."""

from __future__ import annotations

import itertools
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import anyio

from safemt_client import __version__
from safemt_client.datasets import open_dataset
from safemt_client.datasets.model import Dataset, Dialogue
from safemt_client.judges.panel import Judge, Panel
from safemt_client.models import Models, prices_of
from safemt_client.planning.conversation import Conversation
from safemt_client.planning.costs import check_prices, stored_prices
from safemt_client.planning.judgings import _Ended, _judgings, submitted, unjudged, with_known
from safemt_client.planning.messages import continues, first_turn
from safemt_client.planning.plan import Plan, run_fingerprint
from safemt_client.planning.rows import _dialogue_row, judge_rows, moderator_row
from safemt_client.planning.target import Target
from safemt_client.providers.errors import InputError
from safemt_client.providers.types import Image, Outcome, Sampling
from safemt_client.results.store.rows import ModeratorRow, RunRow, StepRow
from safemt_client.results.store.store import Store
from safemt_client.settings import RunSettings

__all__ = ["make_plan", "plan_run", "prepare_images", "select", "targets_of"]


def select(
    dataset: Dataset,
    turns: Sequence[int] | None,
    scenarios: Sequence[str] | None,
    limit: int | None,
) -> tuple[Dialogue, ...]:
    """The dialogues of a run. `limit` counts items, so that pairs over the lengths stay whole."""
    wanted = [
        dialogue
        for dialogue in dataset.dialogues
        if (turns is None or dialogue.length in turns)
        and (scenarios is None or dialogue.scenario in scenarios)
    ]
    if limit is not None:
        items = dict.fromkeys(dialogue.item_id for dialogue in wanted)
        kept = set(list(items)[:limit])
        wanted = [dialogue for dialogue in wanted if dialogue.item_id in kept]
    return tuple(wanted)


def make_plan(
    *,
    dataset: Dataset,
    chosen: Sequence[Dialogue],
    targets: Sequence[Target],
    judge: Judge | None,
    judge_names: Mapping[str, str],
    judge_prices: Mapping[str, Mapping[str, float] | None],
    images: Mapping[str, Image | str],
    settings: Mapping[str, Any],
    store: Store | None,
    batch: bool = False,
    judge_batch: bool = False,
    moderators: Sequence[ModeratorRow] = (),
) -> Plan:
    """Compare what is wanted with what the store holds.

    `images` maps each path of the dialogues to the image, or to the reason why it cannot be sent;
    it is empty for `--images off`. `judge_names` and `judge_prices` are by a
    judge's key. `settings` is what decides the results, for the fingerprint.
    """
    keys = [dataset.dialogue_key(dialogue) for dialogue in chosen]
    fingerprint = run_fingerprint(dataset.digest, keys, [target.key for target in targets], judge)
    run = RunRow(
        run_id=fingerprint[:12],
        fingerprint=fingerprint,
        created_at=datetime.now(UTC),
        program_version=__version__,
        dataset_name=dataset.name,
        dataset_digest=dataset.digest,
        dataset_path=str(dataset.path),
        dataset_licence=dataset.licence,
        settings=json.dumps(dict(settings), sort_keys=True),
    )
    not_attempted: dict[str, str] = {}
    conversations: list[Conversation] = []
    for dialogue in chosen:
        key = dataset.dialogue_key(dialogue)
        paths = [path for message in dialogue.messages for path in message.images] if images else []
        broken = [found for path in paths if isinstance(found := images[path], str)]
        if broken:
            not_attempted[key] = broken[0]
            continue
        ready = {path: found for path in paths if not isinstance(found := images[path], str)}
        conversations += [
            Conversation(target, dialogue, key, ready, first_turn(dialogue, target.history))
            for target in targets
        ]
    pending, ended, steps, cached = _walk(conversations, run.run_id, store)
    hashes = [end.request_hash for end in ended]
    if store is not None and moderators:
        same = store.judged_as(hashes)
        ended = [replace(end, judged_hash=same.get(end.request_hash, end.request_hash)) for end in ended]
    said = {} if store is None else store.reply_hashes(hashes)
    replies = [(end.judged_hash, end.conversation.key, said[end.request_hash]) for end in ended]
    unscored = unjudged(replies, judge, store)
    judgings = _judgings([end for end, reply in zip(ended, replies, strict=True) if reply in unscored], store)
    if isinstance(judge, Panel):
        judgings = with_known(judgings, judge, store)
    rows = () if judge is None else judge_rows(judge, run.run_id, judge_names, judge_prices)
    return Plan(
        run=run,
        warnings=len(dataset.warnings),
        targets=tuple(targets),
        judge=rows[0] if rows else None,
        members=rows[1:],
        dialogues=tuple(_dialogue_row(dataset, dialogue) for dialogue in chosen),
        not_attempted=not_attempted,
        pending=_in_order(pending),
        judgings=judgings,
        steps=steps,
        cached_turns=cached,
        cached_verdicts=len(ended) - len(judgings) if judge is not None else 0,
        batch=batch,
        submitted=submitted(pending, judgings, judge, store),
        judge_batch=judge_batch,
        moderators=tuple(replace(row, run_id=run.run_id) for row in moderators),
    )


# So many items take turns at one length before their next length comes: the first answer is back by then.
_ITEMS_TOGETHER = 64


def _in_order(pending: Sequence[Conversation]) -> tuple[Conversation, ...]:
    """Most turns first, so that no long conversation is left for the end; else an item's lengths together.

    Requests of one item begin alike, with the same image. Sent at once none would find another in the
    vendor's prompt cache; a few dozen requests later it does, and the image is still in memory.
    """
    items: dict[str, int] = {}
    for conversation in pending:
        items.setdefault(conversation.dialogue.item_id, len(items))

    def rank(conversation: Conversation) -> tuple[int, int, int, int]:
        item = items[conversation.dialogue.item_id]
        return -conversation.turns_left, item // _ITEMS_TOGETHER, -conversation.dialogue.length, item

    return tuple(sorted(pending, key=rank))


def _walk(
    conversations: Iterable[Conversation], run_id: str, store: Store | None
) -> tuple[list[Conversation], list[_Ended], tuple[StepRow, ...], Counter[str]]:
    """Follow each conversation through the store, one query a turn of all of them together."""
    pending: list[Conversation] = []
    done: list[_Ended] = []
    steps: list[StepRow] = []
    cached: Counter[str] = Counter()
    open_now = list(conversations)
    while open_now:
        asked = [(c, *c.next()) for c in open_now]
        known = {} if store is None else store.observed([key for _, _, key in asked])
        said = (
            {}
            if store is None
            else store.texts([key for c, _, key in asked if key in known and c.turns_left > 1])
        )
        open_now = []
        for conversation, request, key in asked:
            if key not in known:
                pending.append(conversation)
                continue
            outcome = Outcome(known[key])
            steps.append(StepRow(run_id, conversation.target.key, conversation.key, conversation.turn, key))
            cached[conversation.target.key] += 1
            last = conversation.turns_left == 1
            if last or continues(outcome):
                done.append(_Ended(conversation, request.messages, outcome, key, key))
            if not last and continues(outcome):
                conversation.replies.append(said[key])
                conversation.turn += 1
                open_now.append(conversation)
    return pending, done, tuple(steps), cached


_LOCAL_MAX_TOKENS = 1024


async def targets_of(settings: RunSettings, parts: Models, store: Store | None) -> list[Target]:
    """The targets of the settings: each model under each moderator.

    With `--fresh` under a sample index that is new or unfinished.
    """
    targets: list[Target] = []
    moderators = await parts.moderators_of_settings()
    for name, moderator in itertools.product(settings.provider, moderators):
        spec = parts.spec(name, settings.base_url)
        sampling = Sampling(
            temperature=settings.temperature,
            max_tokens=settings.max_tokens or (_LOCAL_MAX_TOKENS if spec.own else None),
            top_p=settings.top_p,
            seed=settings.seed,
        )
        target = Target(name, spec.identity, settings.history, settings.images, sampling)
        if moderator is not None:
            called = f"{name} + {moderator.name}"
            target = replace(target, name=called, provider=name, moderator=moderator.key)
        if any(target.key == other.key for other in targets):
            raise InputError(f"--provider {name}: named twice with the same settings: leave one out")
        targets.append(target)
    if settings.fresh and store is not None:
        sample = _fresh_sample(store, targets)
        targets = [replace(target, sample=sample) for target in targets]
    by_key = {moderator.key: moderator for moderator in moderators if moderator is not None}
    for target in targets:
        spec = parts.spec(target.model_name, settings.base_url)
        if target.moderator is not None:
            parts.moderators[target.key] = by_key[target.moderator]
        provider = parts.providers[target.key] = parts.provider(spec)
        if (endpoint := parts.batch_endpoint(spec, provider)) is not None:
            parts.batches[target.key] = endpoint
        elif settings.batch:
            raise InputError(f"--batch: no batch API of {target.name} is known here: leave it out")
        parts.accounts[target.key] = parts.limits.account_of(spec.account)
    return targets


def _fresh_sample(store: Store, targets: Sequence[Target]) -> int:
    """The next sample index, or the current one while its run has not finished: so `--fresh` resumes."""
    rows = store.query(
        """SELECT t.sample, bool_and(t.run_id IN (SELECT run_id FROM run_events WHERE event = 'finished'))
           FROM run_targets t WHERE list_contains(?, t.identity) GROUP BY t.sample
           ORDER BY t.sample DESC LIMIT 1""",
        [[target.identity for target in targets]],
    ).rows
    if not rows:
        return 0
    sample, finished = rows[0]
    return int(sample) + 1 if finished or sample == 0 else int(sample)


async def prepare_images(
    dataset: Dataset, chosen: Sequence[Dialogue], settings: RunSettings
) -> dict[str, Image | str]:
    """Each image path of the dialogues, verified: the image, or why it cannot be sent."""
    if settings.images == "off":
        return {}
    from safemt_client.datasets import images

    owners = {
        path: dialogue.item_id
        for dialogue in reversed(chosen)
        for message in dialogue.messages
        for path in message.images
    }
    found: dict[str, Image | str] = {}
    limiter = anyio.CapacityLimiter(os.cpu_count() or 2)

    def one(path: str, item: str) -> Image | str:
        try:
            image = images.prepare(
                dataset.image_path(path),
                max_edge=settings.image_max_edge or images.DEFAULT_MAX_EDGE,
                max_bytes=settings.image_max_bytes or images.DEFAULT_MAX_BYTES,
                item=item,
            )
        except InputError as error:
            return str(error)
        return images.blank(image) if settings.images == "blank" else image

    async def keep(path: str, item: str) -> None:
        found[path] = await anyio.to_thread.run_sync(one, path, item, limiter=limiter)

    async with anyio.create_task_group() as group:
        for path, item in owners.items():
            group.start_soon(keep, path, item)
    return found


async def plan_run(settings: RunSettings, parts: Models, store: Store | None) -> tuple[Plan, Judge | None]:
    """Read the data, resolve every name and compare with the store. Nothing is sent."""
    dataset = open_dataset(settings.dataset, follow_links=settings.follow_links)
    if settings.batch and settings.history == "live":
        raise InputError(
            "--batch: in live history each turn needs the reply before it: leave --batch out, "
            "or take --history scripted"
        )
    if settings.batch and settings.moderator and set(settings.moderator) != {"none"}:
        raise InputError("--batch: a moderator looks at each turn as it comes: leave out one of the two")
    if dataset.live_only and settings.history != "live":
        raise InputError(f"{settings.data}: has no scripted assistant turns: add --history live")
    unknown = set(settings.scenario or ()) - {d.scenario for d in dataset.dialogues}
    if unknown:
        known = ", ".join(sorted({d.scenario for d in dataset.dialogues if d.scenario}))
        raise InputError(f"--scenario {sorted(unknown)[0]!r}: not in {dataset.name}; it has: {known}")
    lengths = {d.length for d in dataset.dialogues}
    missing = sorted(set(settings.turns or ()) - lengths)
    if missing:
        have = ", ".join(map(str, sorted(lengths)))
        raise InputError(f"--turns {missing[0]}: {dataset.name} has no such dialogues; it has {have}")
    chosen = select(dataset, settings.turns, settings.scenario, settings.limit)
    if not chosen:
        raise InputError("no dialogue is left after --turns, --scenario and --limit: loosen one of them")
    if store is not None and not settings.new_run:
        _same_data(store, dataset, settings)
    judge = parts.judge()
    targets = await targets_of(settings, parts, store)
    if unused := parts.limits.unused():
        raise InputError(
            f"[accounts.{unused[0]}]: nothing of this run asks it; "
            f"it asks {', '.join(sorted(set(parts.accounts.values())))}"
        )
    keys = [dataset.dialogue_key(dialogue) for dialogue in chosen]
    run_id = run_fingerprint(dataset.digest, keys, [target.key for target in targets], judge)[:12]
    snapshot = stored_prices(store, run_id)
    judge_prices = {key: prices_of(spec, settings, snapshot, key) for key, spec in parts.judge_specs.items()}
    plan = make_plan(
        dataset=dataset,
        chosen=chosen,
        targets=[
            replace(
                target,
                prices=prices_of(
                    parts.spec(target.model_name, settings.base_url), settings, snapshot, target.key
                ),
            )
            for target in targets
        ],
        judge=judge,
        judge_names=parts.judge_names,
        judge_prices=judge_prices,
        images=await prepare_images(dataset, chosen, settings),
        settings=settings.deciding,
        store=store,
        batch=settings.batch,
        # The judges of a panel are asked one after the other.
        judge_batch=settings.batch and judge is not None and judge.key in parts.batches,
        moderators=[
            moderator_row(
                moderator,
                run_id,
                # Prices are those of the run's start, unless the user gives others.
                snapshot.get(moderator.assessor.key, parts.guard_prices[moderator.assessor.key])
                if not settings.price
                else parts.guard_prices[moderator.assessor.key],
            )
            for moderator in dict.fromkeys(parts.moderators.values())
        ],
    )
    check_prices(plan, settings, list(parts.guard_specs))
    return plan, judge


def _same_data(store: Store, dataset: Dataset, settings: RunSettings) -> None:
    """Refuse to go on with a run whose data set has changed under it."""
    runs = store.query(
        "SELECT run_id, dataset_digest, settings FROM runs WHERE dataset_path = ? ORDER BY created_at DESC",
        [str(dataset.path)],
    ).rows
    run_id, digest = next(
        ((run_id, digest) for run_id, digest, kept in runs if settings.decide_as(json.loads(kept))),
        ("", dataset.digest),
    )
    if digest != dataset.digest:
        raise InputError(
            f"{dataset.path}: the data has changed since run {run_id} (digest {digest[:12]}, "
            f"now {dataset.digest[:12]}): restore it, or pass --new-run to start another run"
        )
