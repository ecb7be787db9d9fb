"""Turn settings and data into what a run should ask, with every name resolved. Nothing is sent."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from safemt_client.datasets import open_dataset
from safemt_client.datasets.files import shown
from safemt_client.datasets.model import Dataset, Dialogue
from safemt_client.models import Models
from safemt_client.planning.content import (
    check_pictures,
    check_texts,
    content_digest,
    earlier_run,
    told_apart,
)
from safemt_client.planning.costs import stored_prices
from safemt_client.planning.pictures import pictures_of
from safemt_client.planning.resolved import Resolved, of_dataset
from safemt_client.planning.rows import judge_rows, moderator_row
from safemt_client.planning.sampling import drawn
from safemt_client.planning.stopping import check_stop_when, stop_when_of
from safemt_client.planning.target import Target
from safemt_client.pricing import Prices, prices_of
from safemt_client.providers.errors import InputError
from safemt_client.results.scores.rules import Rule
from safemt_client.settings import RunSettings

if TYPE_CHECKING:
    from safemt_client.results.store.store import Store

__all__ = ["resolve_run", "select", "targets_of"]


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


_LOCAL_MAX_TOKENS = 1024


async def targets_of(settings: RunSettings, models: Models, store: Store | None) -> list[Target]:
    """The targets of the settings: each model under each moderator.

    With `--fresh` under a sample index that is new or unfinished.
    """
    targets: list[Target] = []
    moderators = await models.moderators_of_settings()
    for name, moderator in itertools.product(settings.provider, moderators):
        spec, said = models.spec(name), models.said(name)
        sampling = said.sampling(_LOCAL_MAX_TOKENS if spec.own else None)
        target = Target(
            *(spec.name, spec.identity, settings.history, settings.images, sampling),
            system_prompt=said.system,
        )
        if moderator is not None:
            called = f"{spec.name} + {moderator.name}"
            target = replace(target, name=called, provider=spec.name, moderator=moderator.key)
        if any(target.key == other.key for other in targets):
            raise InputError(
                f"--provider {spec.name}: named twice with the same settings: leave one out, or tell two "
                "servers apart by ALIAS=MODEL@URL"
            )
        targets.append(target)
    if settings.fresh and store is not None:
        sample = _fresh_sample(store, targets)
        targets = [replace(target, sample=sample) for target in targets]
    by_key = {moderator.key: moderator for moderator in moderators if moderator is not None}
    for target in targets:
        spec = models.spec(target.model_name)
        if target.moderator is not None:
            models.moderators[target.key] = by_key[target.moderator]
        provider = models.providers[target.key] = models.provider(spec)
        if (endpoint := models.batch_endpoint(spec, provider)) is not None:
            models.batches[target.key] = endpoint
        elif settings.batch:
            raise InputError(f"--batch: no batch API is known for {target.name}: leave it out")
        models.accounts[target.key] = models.limits.account_of(spec.account)
    return targets


def _fresh_sample(store: Store, targets: Sequence[Target]) -> int:
    """The next sample index, or the current one while its run has not finished: so `--fresh` resumes."""
    rows = store.query(
        """SELECT t.sample, bool_and(t.run_id IN (SELECT run_id FROM run_events WHERE event = 'finished')),
                  max(t.sample + coalesce(r.samples, 1))
           FROM run_targets t LEFT JOIN runs r USING (run_id)
           WHERE list_contains(?, t.identity) GROUP BY t.sample
           ORDER BY t.sample DESC""",
        [[target.identity for target in targets]],
    ).rows
    if not rows:
        return 0
    sample, finished, _ = rows[0]
    return max(row[2] for row in rows) if finished or sample == 0 else int(sample)


async def resolve_run(settings: RunSettings, models: Models, store: Store | None) -> Resolved:
    """Read the data and resolve every name. Nothing is sent.

    Raises:
        InputError: the data, a key, a file or a price is missing, or settings do not go together.
    """
    rules = check_stop_when(settings)
    dataset = open_dataset(
        settings.dataset,
        follow_links=settings.follow_links,
        data_map=settings.data_map,
        values=settings.data_value or (),
        config=settings.data_config,
        split=settings.data_split,
    )
    chosen = _chosen(dataset, settings)
    before = None if store is None or settings.new_run else earlier_run(store, dataset, settings)
    if before is not None:
        check_texts(before, dataset)
    judge = await models.judge()
    targets = await targets_of(settings, models, store)
    _check_system(targets, chosen)
    if unused := models.limits.unused():
        raise InputError(
            f"[accounts.{unused[0]}]: no model of this run uses it; "
            f"the run uses {', '.join(sorted(set(models.accounts.values())))}"
        )
    if tables := models.unused_tables():
        named = [*settings.provider, *settings.judge_names]
        raise InputError(
            f"[providers.{tables[0]}]: no model of this run has this name; the run names {', '.join(named)}"
        )
    pictures = await pictures_of(dataset, chosen, settings, store)
    content = content_digest(dataset, pictures)
    if before is not None and store is not None:
        check_pictures(before, dataset, content, pictures, store)
    wanted = of_dataset(
        dataset,
        chosen,
        targets,
        pictures=pictures,
        settings=settings.deciding,
        judge=judge,
        content=content,
        samples=settings.samples,
    )
    wanted = replace(
        wanted,
        apart=told_apart(wanted, store),
        batch=settings.batch,
        # The judges of a panel are asked one after another.
        judge_batch=settings.batch and judge is not None and judge.key in models.batches,
    )
    if rules:
        wanted = _stopping(wanted, rules, dataset, settings, store)
    return _priced(wanted, settings, models, stored_prices(store, wanted.run_id))


def _stopping(
    wanted: Resolved, rules: Sequence[Rule], dataset: Dataset, settings: RunSettings, store: Store | None
) -> Resolved:
    """With what the run stops by, which is about all that it might have asked, sampled or not."""
    begun = store is not None and wanted.run_id in store.known_keys("runs", "run_id")
    stopping = stop_when_of(
        rules,
        select(dataset, settings.turns, settings.scenario, settings.limit),
        {row.item_id for row in wanted.dialogues},
        wanted.targets,
        settings,
        (store, wanted.run_id) if begun and store is not None else None,
    )
    return replace(wanted, stopping=stopping)


def _chosen(dataset: Dataset, settings: RunSettings) -> tuple[Dialogue, ...]:
    """The dialogues of the run.

    Raises:
        InputError: the settings do not go together, or not with the data.
    """
    if settings.batch and settings.history == "live":
        raise InputError(
            "--batch: in live history each turn needs the reply before it: leave --batch out, "
            "or use --history scripted"
        )
    if settings.batch and settings.moderator and set(settings.moderator) != {"none"}:
        raise InputError("--batch: a moderator checks each turn as it comes: leave one of the two out")
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
        raise InputError("no dialogues are left after --turns, --scenario and --limit: relax one of them")
    if settings.sample is not None:
        if settings.limit is not None:
            raise InputError("--sample: draws from all items: leave --limit out")
        by_scenario = settings.sample_by == "scenario"
        chosen = drawn(chosen, settings.sample, settings.sample_seed, by_scenario=by_scenario)
    if settings.history != "live":
        if dataset.live_only:
            raise InputError(f"{settings.data}: has no scripted assistant turns: add --history live")
        if (bare := next((dialogue for dialogue in chosen if not dialogue.scripted), None)) is not None:
            raise InputError(
                f"{settings.data}: {shown(bare.item_id)} has user turns without scripted replies "
                "between them: add --history live"
            )
    return chosen


def _check_system(targets: Sequence[Target], chosen: Sequence[Dialogue]) -> None:
    """Refuse two system messages in one conversation: endpoints treat them differently."""
    own = next((dialogue for dialogue in chosen if dialogue.system is not None), None)
    if (
        own is not None
        and (given := next((t for t in targets if t.system_prompt is not None), None)) is not None
    ):
        raise InputError(
            f"--system-prompt: {given.name} has one, and the dialogue {shown(own.item_id)} has a system "
            "message of its own: leave one out"
        )


def _priced(
    wanted: Resolved, settings: RunSettings, models: Models, snapshot: Mapping[str, Prices]
) -> Resolved:
    """With the prices of the run's start (`snapshot`), unless the user gives others."""

    def priced(target: Target) -> Target:
        spec = models.spec(target.model_name)
        return replace(target, prices=prices_of(spec, settings, snapshot, target.key))

    def guard_prices(key: str) -> Prices:
        now = models.guard_prices[key]
        return now if settings.price else snapshot.get(key, now)

    judges = {key: prices_of(spec, settings, snapshot, key) for key, spec in models.judge_specs.items()}
    return replace(
        wanted,
        targets=tuple(map(priced, wanted.targets)),
        judge_rows=judge_rows(wanted.judge, wanted.run_id, models.judge_names, judges),
        moderators=tuple(
            moderator_row(moderator, wanted.run_id, guard_prices(moderator.assessor.key))
            for moderator in dict.fromkeys(models.moderators.values())
        ),
    )
