"""What a session asks, opened from its settings: targets, judges and guards, with limits and prices."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from safemt_client.guard_judges import GUARD, GuardJudge, guard_spec
from safemt_client.judges.judge import LLMJudge
from safemt_client.judges.panel import Judge, Panel
from safemt_client.judges.plugin import PluginJudge, judge_spec
from safemt_client.judges.rubric import load_rubric
from safemt_client.moderator.build import (
    ModeratorSpec,
    check_guard_options,
    guard_of,
    guard_options,
    parse_moderator,
)
from safemt_client.moderator.held import held
from safemt_client.moderator.types import Guard
from safemt_client.placing import Earlier, placed
from safemt_client.pricing import prices_of
from safemt_client.providers.addresses import shown
from safemt_client.providers.errors import InputError, MissingKeyError
from safemt_client.providers.limits.limiter import Limits
from safemt_client.providers.negotiation import Negotiations
from safemt_client.providers.planned import Planned
from safemt_client.providers.provider import Provider
from safemt_client.providers.registry import build, build_batches, own_spec, resolve, split_alias
from safemt_client.providers.resources import calls_at_once, open_files_limit
from safemt_client.providers.routes import Routes
from safemt_client.providers.vendors import DEMO, DEMO_NAMES
from safemt_client.said import (
    Role,
    adjusted,
    check_only_headers,
    limits_of,
    options_of,
    said_of,
    serving_of,
    without_environment,
)
from safemt_client.serving.local import LocalServers
from safemt_client.settings import RunSettings
from safemt_client.tables import ProviderSettings

if TYPE_CHECKING:
    import httpx

    from safemt_client.moderator.assessor import Assessor
    from safemt_client.moderator.moderator import Moderator
    from safemt_client.providers.batch.base import BatchEndpoint
    from safemt_client.providers.registry import ProviderSpec

__all__ = ["Models", "open_models"]

_NO_KEY = "dry-run"
"""In place of a key that a plan does not need."""
_ROLES: Mapping[Role, str] = {"target": "target", "judge": "judge", "guard": "guard's model"}


class Models:
    """The providers of a session: one HTTP client, one set of limits, targets, guards and the judge.

    `providers`, `moderators` and `accounts` are by the key of a target; the accounts of the judge and of the
    guards are there too, and `guard_prices` and `guards_on` are by a guard's key.
    """

    def __init__(
        self,
        settings: RunSettings,
        demo_url: str | None,
        stack: AsyncExitStack,
        given: Mapping[str, object] | None = None,
        limits: Limits | None = None,
        local: LocalServers | None = None,
    ) -> None:
        """`stack` closes what is opened here, such as servers.

        `limits` are those of the accounts, where others share them; by default what the settings say. `given`
        are the user's own models and judges, by their names in the settings. `local` are the servers.
        """
        self._given = given or {}
        self.settings = settings
        self._stack = stack
        self.local = local or LocalServers()
        self._demo_url = demo_url
        self.limits = limits or limits_of(settings, calls_at_once(1 if demo_url is None else 2))
        if self.limits.nothing_left:
            raise InputError(
                f"ulimit -n {open_files_limit()}: so few open files leave none for a request: raise it to 128"
            )
        self.negotiations = Negotiations()
        self.providers: dict[str, Provider] = {}
        self.batches: dict[str, BatchEndpoint] = {}
        self.accounts: dict[str, str] = {}
        self.judge_names: dict[str, str] = {}
        self.judge_specs: dict[str, ProviderSpec] = {}
        self.moderators: dict[str, Moderator] = {}
        self.guard_prices: dict[str, Mapping[str, float] | None] = {}
        self.guard_specs: dict[str, ProviderSpec] = {}
        self.guards_on: dict[str, ProviderSpec] = {}
        self._specs: dict[tuple[str, Role], ProviderSpec] = {}
        self.routes = Routes()
        self.keyless: list[str] = []
        """What a plan was made for without its key."""

    @property
    def _asks_nothing(self) -> bool:
        """Whether this is a plan, and one for which no vendor's form of batches need be known."""
        return self.settings.dry_run and not self.settings.batch

    @cached_property
    def _transport(self) -> httpx.AsyncBaseTransport:
        """Opened once something may be asked: to load what it is made of takes longer than most plans."""
        from safemt_client.providers.transport import make_transport

        transport = make_transport()
        self._stack.push_async_callback(transport.aclose)
        return transport

    def said(self, name: str, role: Role = "target") -> ProviderSettings:
        """What the user says of the requests to a model in this role."""
        return said_of(self.settings, name, role)

    def spec(self, name: str, role: Role = "target") -> ProviderSpec:
        """Resolve a name; the demo's names lead to the endpoint of this session."""
        if (name, role) not in self._specs:
            # Only once each: this creates a plug-in's model.
            given, said = self._given.get(name), self.said(name, role)
            called = name if said.model is None else f"{name}={said.model}"
            serving = serving_of(self.settings, said)
            if given is None and (served := self.local.spec(called, serving, said.base_url)) is not None:
                spec = served
                said = without_environment(spec.name, said) if self.local.elsewhere(spec) else said
                self.limits.presume(spec.account, self.local.at_once(spec))
            elif given is None:
                if said.model is not None and split_alias(called) != (name, said.model):
                    raise InputError(
                        f"[providers.{shown(name)}]: model: the name says it already: leave it out"
                    )
                spec = self._resolved(called, role, said)
            else:
                spec = own_spec(name, given)
            spec = replace(spec, options=self.local.options(spec, options_of(spec, said, os.environ)))
            if spec.vendor is DEMO:
                spec = replace(spec, base_url=self._demo_url)
            else:
                self.routes.add(spec)
            self._specs[name, role] = self._specs[spec.name, role] = spec
        return self._specs[name, role]

    def _resolved(self, called: str, role: Role, said: ProviderSettings) -> ProviderSpec:
        """What a name stands for; a plan needs no keys."""
        try:
            return resolve(called, said.base_url, os.environ, said.api_key_env)
        except MissingKeyError as error:
            default = role == "judge" and self.settings.judge is None
            whose = f"the {_ROLES[role]} {error.name}"
            whose += ", default; change with --judge" if default else ""
            if not self.settings.dry_run:
                raise InputError(f"{whose}: no key: set the environment variable {error.variable}") from None
            self.keyless.append(f"{whose}: no key yet: set the environment variable {error.variable}")
            env = os.environ | {error.variable: _NO_KEY}
            return resolve(called, said.base_url, env, said.api_key_env)

    def unused_tables(self) -> list[str]:
        """Names of tables `[providers.NAME]` that no model of the session has."""
        return [name for name in self.settings.providers if name not in {named for named, _ in self._specs}]

    def provider(self, spec: ProviderSpec) -> Provider:
        """A provider, with the limits of its account."""
        if self._asks_nothing and spec.kind not in ("litellm", "plugin"):
            return Planned(spec.identity, self.limits.for_account(spec.account))
        return build(
            spec,
            transport=self.local.way(spec, self._transport),
            limits=self.limits,
            timeouts=self.settings.timeouts,
            negotiations=self.negotiations,
        )

    async def start(self, asked: Iterable[ProviderSpec], tell: Callable[[str], None]) -> None:
        """Start the servers of those models that are to be asked, and see that they heed a grammar.

        Raises:
            InputError: one cannot be started, or does not.
        """
        wanted = [spec for spec in asked if spec.vendor.managed]
        await self.local.start(wanted, self.provider, self._stack, self.settings.db, tell)

    def batch_endpoint(self, spec: ProviderSpec, provider: Provider) -> BatchEndpoint | None:
        """The batch endpoint beside a provider, None where the vendor has none."""
        if spec.vendor.batches is None or self._asks_nothing:
            return None
        return build_batches(spec, provider, transport=self._transport, max_wait_s=self.settings.max_wait)

    async def judge(self) -> Judge | None:
        """The judge of the settings, or the panel of several; None for `--judge none`.

        Raises:
            InputError: one of them, its rubric or its guard cannot be opened.
        """
        settings = self.settings
        names = settings.judge_names
        rubric = load_rubric(settings.rubric)
        members: list[LLMJudge] = []
        for place, name in enumerate(names):
            if name.startswith(GUARD):
                members.append(await self._guard_judge(name))
                continue
            given = self._given.get(name)
            own = None if name in DEMO_NAMES else judge_spec(name, settings.judge_base_url, given)
            if own is not None and name in settings.providers:
                raise InputError(f"[providers.{name}]: this judge labels replies itself: leave the table out")
            spec = own or self.spec(name, "judge")
            # In a chain the confidence of all but the last decides whether the last is asked.
            logprobs = settings.judge_logprobs or (settings.panel == "chain" and place < len(names) - 1)
            judge: LLMJudge
            if own is not None:
                limiter = self.limits.for_account(own.account)
                judge = PluginJudge(own.own_model, limiter=limiter, timeout_s=settings.attempt_timeout)
            else:
                said = self.said(name, "judge")
                judge = LLMJudge(
                    self.provider(spec),
                    rubric,
                    said.sampling(),
                    sees=settings.judge_sees,
                    logprobs=logprobs,
                    system=said.system,
                )
            self._record(judge, name if own is not None else spec.name, self.limits.account_of(spec.account))
            if (endpoint := self.batch_endpoint(spec, judge.provider)) is not None:
                self.batches[judge.key] = endpoint
            self.judge_specs[judge.key] = spec
            members.append(judge)
        if len(members) < 2:
            return members[0] if members else None
        panel = Panel(settings.panel, tuple(members))
        self.accounts[panel.key] = self.accounts[members[0].key]
        return panel

    def _record(self, judge: LLMJudge, called: str, account: str) -> None:
        """Note what a judge is called and whose account it uses.

        Raises:
            InputError: there is such a judge already.
        """
        if judge.key in self.judge_names or called in self.judge_names.values():
            raise InputError(f"--judge {called}: named twice: leave one out")
        self.judge_names[judge.key] = called
        self.accounts[judge.key] = account

    async def _guard_judge(self, name: str) -> GuardJudge:
        """A guard that labels replies; a value of `--moderator` without actions says which and where."""
        spec = guard_spec(name)
        if "+" in spec.head:
            raise InputError(
                f"--judge {name}: a judge takes no action: leave {spec.head.partition('+')[2]!r} out"
            )
        options = guard_options(self.settings.guard_template, self.settings.guard_option)
        provider, _, account = await self._open_guard(replace(spec, name=name))
        judge = GuardJudge(
            name,
            self._held(spec, guard_of(replace(spec, interventions=frozenset()), options)),
            provider,
            controversial=self.settings.controversial == "unsafe",
        )
        self._record(judge, f"{GUARD}{spec.head}", account)
        if (on := self._specs.get((spec.provider or "", "guard"))) is not None:
            self.judge_specs[judge.key] = on
        return judge

    async def moderators_of_settings(self) -> list[Moderator | None]:
        """The moderators of the settings, None for `none`; guards on the same model share their assessments.

        Raises:
            InputError: a guard, its provider or its files are missing.
        """
        settings = self.settings
        specs = [None if text == "none" else parse_moderator(text) for text in settings.moderator or ["none"]]
        heads = Counter(spec.head for spec in specs if spec is not None)
        options = guard_options(settings.guard_template, settings.guard_option)
        check_guard_options(options, [spec.kind for spec in specs if spec is not None])
        if specs == [None] and settings.policies is None:
            return [None]
        from safemt_client.moderator.moderator import Moderation, Moderator
        from safemt_client.moderator.policies import load_policies

        policies = load_policies(settings.policies)
        assessors: dict[str, Assessor] = {}
        found: list[Moderator | None] = []
        for spec in specs:
            if spec is None:
                found.append(None)
                continue
            assessor = await self._assessor(spec, guard_of(spec, options))
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
            raise InputError("--moderator: two of them are identical: leave one out")
        return found

    async def _assessor(self, spec: ModeratorSpec, guard: Guard) -> Assessor:
        """The guard on its model; its prices and account are recorded under its key."""
        from safemt_client.moderator.assessor import Assessor

        provider, prices, account = await self._open_guard(spec)
        assessor = Assessor(
            self._held(spec, guard), provider, said=self.said(spec.provider or "", "guard").deciding
        )
        self.guard_prices[assessor.key] = prices
        self.accounts[assessor.key] = account
        if (on := self._specs.get((spec.provider or "", "guard"))) is not None:
            self.guards_on[assessor.key] = on
        return assessor

    def _held(self, spec: ModeratorSpec, guard: Guard) -> Guard:
        """The guard, held to its form where the engine that serves its model can do that."""
        on = self._specs.get((spec.provider or "", "guard"))
        served = None if on is None else self.local.of(on)
        return guard if served is None else held(guard, served.constrains, spec.name)

    async def _open_guard(self, spec: ModeratorSpec) -> tuple[Provider, Mapping[str, float] | None, str]:
        settings, free = self.settings, {"input": 0.0, "output": 0.0}
        if spec.kind.load is not None:
            own = await spec.kind.load()
            return own, free, own.identity
        if spec.provider is None:
            flag = "--judge" if spec.name.startswith(GUARD) else "--moderator"
            raise InputError(
                f"{flag} {spec.name}: say where it runs: {spec.name}=MODEL@http://HOST:PORT/v1, "
                f"{spec.name}=VENDOR/MODEL or {spec.name}=local-model:FOLDER"
            )
        resolved, said = self.spec(spec.provider, "guard"), self.said(spec.provider, "guard")
        self.guard_specs[resolved.name] = resolved
        account = self.limits.account_of(resolved.account)
        if spec.kind.runs_on == "moderation endpoint":
            from safemt_client.providers.moderations import ModerationEndpoint

            check_only_headers(spec.provider, said)
            endpoint = ModerationEndpoint(
                model=resolved.model,
                base_url=resolved.base_url or "",
                api_key=resolved.api_key,
                transport=self._transport,
                identity=resolved.identity,
                limiter=self.limits.for_account(resolved.account),
                timeouts=settings.timeouts,
                options=resolved.options,
            )
            return adjusted(endpoint, said), free, account
        return adjusted(self.provider(resolved), said), prices_of(resolved, settings), account


@asynccontextmanager
async def open_models(
    settings: RunSettings,
    given: Mapping[str, object] | None = None,
    earlier: Earlier = frozenset,
    limits: Limits | None = None,
    local: LocalServers | None = None,
) -> AsyncIterator[Models]:
    """The models of a session, with the demo endpoint running if one of the names is the demo's.

    `given` are the user's own models and judges, by their names in the settings; `earlier` is for `placed`,
    `limits` and `local` for `Models`.
    """
    settings, choices = placed(settings, earlier)
    async with AsyncExitStack() as stack:
        demo_url = None
        specs = [parse_moderator(text) for text in settings.moderator or () if text != "none"]
        specs += [guard_spec(name) for name in settings.judge_names if name.startswith(GUARD)]
        guards = (spec.provider or "" for spec in specs)
        named = {*settings.provider, *settings.judge_names, *guards}
        named |= {table.model or "" for name, table in settings.providers.items() if name in named}
        if {*DEMO_NAMES} & {split_alias(name)[1] for name in named}:
            from safemt_client.demo.endpoint import serve_demo

            demo_url = await stack.enter_async_context(serve_demo())
        models = Models(settings, demo_url, stack, given, limits, local)
        models.local.choices = choices
        yield models
