"""One invocation of a run: put the parts together, show the plan, carry it out, say what happened."""

from __future__ import annotations

import gc
import itertools
import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import anyio
import httpx
from rich.console import Console

from safemt_client.datasets import open_dataset
from safemt_client.datasets.model import Dataset, Dialogue
from safemt_client.engine.budget import Budget
from safemt_client.engine.moderating import (
    LOCAL_MODEL,
    ModeratorSpec,
    check_guard_options,
    guard_of,
    guard_options,
    moderator_row,
    parse_moderator,
)
from safemt_client.engine.scheduler import Scheduler
from safemt_client.judges.judge import LLMJudge
from safemt_client.judges.panel import Judge, Panel
from safemt_client.judges.rubric import load_rubric
from safemt_client.moderator.assessor import Assessor
from safemt_client.moderator.moderator import Moderation, Moderator
from safemt_client.moderator.policies import load_policies
from safemt_client.moderator.types import Guard
from safemt_client.plan.costs import check_prices, prices_of, spent_of, stored_prices
from safemt_client.plan.estimate import call_usd, of_guard, of_judge, of_target
from safemt_client.plan.plan import Plan, Target, make_plan, run_fingerprint, select
from safemt_client.providers.batch.base import BatchEndpoint
from safemt_client.providers.errors import InputError
from safemt_client.providers.keys import clear_text_warning
from safemt_client.providers.limits import Limits, Stated
from safemt_client.providers.provider import Provider
from safemt_client.providers.registry import ProviderSpec, build, build_batches, resolve
from safemt_client.providers.transport import make_transport
from safemt_client.providers.types import Image, Sampling
from safemt_client.results.store.store import Store
from safemt_client.settings import RunSettings
from safemt_client.telemetry.events import Both, Ending, Listener, StoppedAtOnceError
from safemt_client.telemetry.progress import Progress

__all__ = ["Parts", "open_parts", "plan_run", "run_session", "targets_of"]

_DEMO = ("demo", "demo-judge", "demo-judge-hasty", "demo-guard")
_LOCAL_MAX_TOKENS = 1024


class Parts:
    """The providers of a session: one HTTP client, one set of limits, targets, guards and the judge.

    `providers`, `moderators` and `accounts` are by the key of a target; the accounts of the judge and of the
    guards are there too, and `guard_prices` is by a guard's key.
    """

    def __init__(
        self,
        settings: RunSettings,
        transport: httpx.AsyncBaseTransport,
        demo_url: str | None,
        stack: AsyncExitStack,
    ) -> None:
        """`stack` closes what is opened on the way, such as a guard in this process."""
        self._settings = settings
        self._stack = stack
        self._transport = transport
        self._demo_url = demo_url
        self.limits = Limits(
            Stated(settings.rpm, settings.tpm, settings.max_concurrency),
            {
                name: Stated(account.rpm, account.tpm, account.max_concurrency)
                for name, account in settings.accounts.items()
            },
        )
        self.providers: dict[str, Provider] = {}
        self.batches: dict[str, BatchEndpoint] = {}
        self.accounts: dict[str, str] = {}
        self.judge_names: dict[str, str] = {}
        self.judge_specs: dict[str, ProviderSpec] = {}
        self.moderators: dict[str, Moderator] = {}
        self.guard_prices: dict[str, Mapping[str, float] | None] = {}
        self.guard_specs: dict[str, ProviderSpec] = {}
        self._local_models: dict[str, Provider] = {}

    def spec(self, name: str, base_url: str | None) -> ProviderSpec:
        """Resolve a name; the demo's names lead to the endpoint of this session."""
        if name in _DEMO:
            spec = replace(resolve("demo", None, os.environ), name=name, model=name, identity=f"demo/{name}")
            return replace(spec, base_url=self._demo_url)
        spec = resolve(name, base_url, os.environ)
        clear_text_warning(spec.base_url)
        return spec

    def provider(self, spec: ProviderSpec) -> Provider:
        """A provider, with the limits of its account."""
        settings = self._settings
        return build(
            spec,
            transport=self._transport,
            limits=self.limits,
            max_wait_s=settings.max_wait,
            attempt_timeout_s=settings.attempt_timeout,
            turn_timeout_s=settings.turn_timeout,
        )

    def batch_endpoint(self, spec: ProviderSpec, provider: Provider) -> BatchEndpoint | None:
        """The batch endpoint beside a provider, None where the vendor has none."""
        return build_batches(spec, provider, transport=self._transport, max_wait_s=self._settings.max_wait)

    def judge(self) -> Judge | None:
        """The judge of the settings, or the panel of several; None for `--judge none`."""
        settings = self._settings
        names = settings.judge_names
        rubric = load_rubric(settings.rubric)
        sampling = Sampling(temperature=settings.judge_temperature)
        members = []
        for place, name in enumerate(names):
            spec = self.spec(name, settings.judge_base_url)
            # In a chain the confidence of all but the last decides whether the last is asked.
            logprobs = settings.judge_logprobs or (settings.panel == "chain" and place < len(names) - 1)
            judge = LLMJudge(
                self.provider(spec), rubric, sampling, sees=settings.judge_sees, logprobs=logprobs
            )
            if judge.key in self.judge_names or name in self.judge_names.values():
                raise InputError(f"--judge {name}: named twice: leave one out")
            if (endpoint := self.batch_endpoint(spec, judge.provider)) is not None:
                self.batches[judge.key] = endpoint
            self.judge_names[judge.key] = name
            self.judge_specs[judge.key] = spec
            self.accounts[judge.key] = self.limits.account_of(spec.account)
            members.append(judge)
        if len(members) < 2:
            return members[0] if members else None
        panel = Panel(settings.panel, tuple(members))
        self.accounts[panel.key] = self.accounts[members[0].key]
        return panel

    async def moderators_of_settings(self) -> list[Moderator | None]:
        """The moderators of the settings, None for `none`; guards on the same model share their assessments.

        Raises:
            InputError: a guard, its provider or its files are not there.
        """
        settings = self._settings
        specs = [None if text == "none" else parse_moderator(text) for text in settings.moderator or ["none"]]
        heads = Counter(spec.head for spec in specs if spec is not None)
        policies = load_policies(settings.policies)
        options = guard_options(settings.guard_template, settings.guard_option)
        check_guard_options(options, [spec.guard for spec in specs if spec is not None])
        assessors: dict[str, Assessor] = {}
        found: list[Moderator | None] = []
        for spec in specs:
            if spec is None:
                found.append(None)
                continue
            guard = guard_of(spec, options)
            assessor = Assessor(guard, await self._guard_provider(spec, guard))
            assessor = assessors.setdefault(assessor.key, assessor)
            moderation = Moderation(
                spec.interventions,
                policies,
                place=settings.policy_place,
                on_error=settings.on_guard_error,
                controversial=settings.controversial == "unsafe",
                prefixes=settings.moderator_turns == "every",
            )
            name = spec.head if heads[spec.head] == 1 else spec.name
            found.append(Moderator(name, assessor, moderation))
        keys = [None if moderator is None else moderator.key for moderator in found]
        if len(set(keys)) < len(keys):
            raise InputError("--moderator: two of them do the same: leave one out")
        return found

    async def _guard_provider(self, spec: ModeratorSpec, guard: Guard) -> Provider:
        """What the guard is asked through; what it costs and its account are noted by the assessor's key."""
        provider, prices, account = await self._open_guard(spec)
        key = Assessor(guard, provider).key
        self.guard_prices[key] = prices
        self.accounts[key] = account
        return provider

    async def _open_guard(self, spec: ModeratorSpec) -> tuple[Provider, Mapping[str, float] | None, str]:
        settings, free = self._settings, {"input": 0.0, "output": 0.0}
        if spec.guard == "profanity":
            from safemt_client.moderator.local.classifier import LocalClassifier

            classifier = await LocalClassifier.load()
            return classifier, free, classifier.identity
        if spec.provider is None:
            raise InputError(
                f"--moderator {spec.name}: say where it runs: {spec.name}=MODEL@http://HOST:PORT/v1, "
                f"{spec.name}=VENDOR/MODEL or {spec.name}=local-model:FOLDER"
            )
        if spec.provider.startswith(LOCAL_MODEL):
            from safemt_client.moderator.local.model import LocalModel

            path = spec.provider.removeprefix(LOCAL_MODEL)
            if path not in self._local_models:
                model = await LocalModel.load(path)
                self._local_models[path] = await self._stack.enter_async_context(model)
            return self._local_models[path], free, "this machine"
        resolved = self.spec(spec.provider, None)
        self.guard_specs[resolved.name] = resolved
        account = self.limits.account_of(resolved.account)
        if spec.guard == "openai-moderation":
            from safemt_client.providers.moderations import ModerationEndpoint

            endpoint = ModerationEndpoint(
                model=resolved.model,
                base_url=resolved.base_url or "",
                api_key=resolved.api_key,
                transport=self._transport,
                identity=resolved.identity,
                limiter=self.limits.for_account(resolved.account),
                max_wait_s=settings.max_wait,
                attempt_timeout_s=settings.attempt_timeout,
                turn_timeout_s=settings.turn_timeout,
            )
            return endpoint, free, account
        return self.provider(resolved), prices_of(resolved, settings), account


@asynccontextmanager
async def open_parts(settings: RunSettings) -> AsyncIterator[Parts]:
    """The parts of a session, with the demo endpoint running if one of the names is the demo's."""
    async with AsyncExitStack() as stack:
        demo_url = None
        guards = (parse_moderator(text).provider for text in settings.moderator or () if text != "none")
        if {*_DEMO} & {*settings.provider, *settings.judge_names, *guards}:
            from safemt_client.demo.endpoint import serve_demo

            demo_url = await stack.enter_async_context(serve_demo())
        transport = await stack.enter_async_context(make_transport())
        yield Parts(settings, transport, demo_url, stack)


async def targets_of(settings: RunSettings, parts: Parts, store: Store | None) -> list[Target]:
    """The targets of the settings: each model under each moderator.

    With `--fresh` under a sample index that is new or unfinished.
    """
    targets: list[Target] = []
    moderators = await parts.moderators_of_settings()
    for name, moderator in itertools.product(settings.provider, moderators):
        spec = parts.spec(name, settings.base_url)
        local = spec.identity.startswith("local/")
        sampling = Sampling(
            temperature=settings.temperature,
            max_tokens=settings.max_tokens or (_LOCAL_MAX_TOKENS if local else None),
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


async def plan_run(settings: RunSettings, parts: Parts, store: Store | None) -> tuple[Plan, Judge | None]:
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


async def run_session(
    plan: Plan,
    judge: Judge | None,
    parts: Parts,
    store: Store,
    settings: RunSettings,
    console: Console,
    *,
    session_id: str,
    log: Listener | None = None,
) -> Ending:
    """Carry the plan out under a display, until done or stopped; `log` hears what the display does."""
    spent = spent_of(store, plan.run.run_id)
    # The prices of the first calls matter to a cap alone.
    estimates = {target.key: of_target(plan, target) for target in plan.targets if settings.max_cost}
    if plan.judge is not None and settings.max_cost:
        estimates[plan.judge.judge_key] = of_judge(plan)
    if settings.max_cost:
        estimates |= {row.guard_key: of_guard(plan, row.guard_key) for row in plan.moderators}
    first = {key: call_usd(estimate) or 0.0 for key, estimate in estimates.items()}
    progress = Progress(plan, console, quiet=settings.quiet, spent_before=spent, cap_usd=settings.max_cost)
    scheduler = Scheduler(
        plan,
        store,
        parts.providers,
        judge,
        progress if log is None else Both(progress, log),
        session_id=session_id,
        limits=parts.limits,
        budget=Budget(settings.max_cost, spent=spent, first=first),
        batches=parts.batches,
        moderators=parts.moderators,
    )
    # The plan lives to the end: the collector need not walk through it again and again.
    gc.freeze()
    ending: Ending | None = None
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(_listen, scheduler, progress, group.cancel_scope)
            group.start_soon(progress.show)
            ending = await scheduler.run()
            group.cancel_scope.cancel()
    finally:
        gc.unfreeze()
    if ending is None:
        raise StoppedAtOnceError("interrupted; the same command resumes")
    return ending


async def _listen(scheduler: Scheduler, progress: Progress, scope: anyio.CancelScope) -> None:
    """First Ctrl-C or SIGTERM: let what is in flight land. Second: stop at once."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        first = True
        async for _ in signals:
            if not first:
                # Not KeyboardInterrupt: raised in a task it stops the loop before anything is tidied up.
                scope.cancel()
                return
            first = False
            scheduler.stop()
            progress.notice("stopping: waiting for what is in flight; Ctrl-C again stops at once")
