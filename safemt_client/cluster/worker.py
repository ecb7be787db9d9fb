"""A worker: the scheduler of one process on pieces of a plan, with store, limits and money elsewhere."""

from __future__ import annotations

import asyncio
import os
import platform
import traceback
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from safemt_client.cluster.keeper import RemoteKeeper
from safemt_client.cluster.link import Link
from safemt_client.cluster.messages import Answer, Report
from safemt_client.cluster.money import RemoteBudget
from safemt_client.cluster.news import Item, News
from safemt_client.cluster.packed import unpack
from safemt_client.cluster.shared import named_for_all, under
from safemt_client.cluster.versions import versions
from safemt_client.engine.ahead import load_ahead
from safemt_client.engine.collecting import collecting_less
from safemt_client.engine.context import SessionContext
from safemt_client.engine.meter import Meter
from safemt_client.engine.recorder import Recorder
from safemt_client.engine.scheduler import Scheduler
from safemt_client.judges.panel import Judge, Panel
from safemt_client.models import Models, open_models
from safemt_client.moderator.moderator import Moderator
from safemt_client.planning.ceilings import Ceiling
from safemt_client.planning.plan import Plan
from safemt_client.planning.resolve import targets_of
from safemt_client.providers.errors import InputError, SafemtError
from safemt_client.providers.negotiation import Learnt
from safemt_client.providers.pauses import PAUSES
from safemt_client.providers.resources import calls_at_once, raise_open_files
from safemt_client.results.store.deliveries import Delivery
from safemt_client.said import limits_of
from safemt_client.serving.forwarded import Remote
from safemt_client.serving.local import LocalServers
from safemt_client.serving.posted import Handed
from safemt_client.settings import RunSettings

__all__ = ["AT_ONCE", "MOST", "Head", "Worker"]

AT_ONCE = 2
"""Pieces of which a worker begins conversations at a time, so that some are there while it waits for more."""
MOST = 16
"""Pieces that a worker has in hand, with those of which all has begun."""
_TELL_S = 5.0
"""How often the driver is told how much its servers were asked."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a worker is told: settings with names of variables, never values, and the head of the plan.

    `ceilings` and `first` are the prices under a cost cap, by key; `facts` is known of endpoints, `handed` of
    the driver's servers. With `rows` the driver wants to know of rows, with `texts` wholly.
    """

    settings: RunSettings
    plan: Plan
    session_id: str
    capped: bool
    ceilings: Mapping[str, Ceiling]
    first: Mapping[str, float]
    facts: tuple[tuple[str, str | None, str, str, str | None], ...]
    handed: Handed | None
    rows: bool
    texts: bool


class Worker:
    """Carries pieces out. Its methods are called from one event loop, and may each be called again.

    `deliver`, `tick` and `ask` are the ways to the Writer and the Accounts; `load` gives a picture's bytes,
    `reach` the way to a server of another machine.
    """

    def __init__(
        self,
        incarnation: str,
        deliver: Callable[[Delivery], Awaitable[bool]],
        tick: Callable[[Report], Awaitable[Answer]],
        ask: Callable[..., Any],
        load: Callable[[Any], bytes],
        reach: Callable[[str, str], Remote] | None = None,
    ) -> None:
        self._incarnation = incarnation
        self._deliver, self._tick, self._ask, self._load = deliver, tick, ask, load
        self._reach = reach
        self._news = News()
        self._named: dict[str, str] = {}
        self._taken: dict[int, asyncio.Task[None]] = {}
        self._schedulers: set[Scheduler] = set()
        self._begun: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[None] | None = None
        self._saving: set[asyncio.Task[None]] = set()
        self._over = asyncio.Event()
        self._stopping = False

    async def hello(self) -> dict[str, str]:
        """What must be the same on all machines, and the id of this process."""
        return versions() | {"pid": str(os.getpid())}

    async def begin(self, head: bytes) -> None:
        """Open all models.

        Raises:
            InputError: something is missing here, such as a key in the environment.
        """
        if self._begun is None:
            self._ready = asyncio.get_running_loop().create_future()
            # One task, from the first to the last: what is opened in a task has to be closed in it.
            self._begun = asyncio.ensure_future(self._live(unpack(head, self._load)))
        assert self._ready is not None
        await asyncio.shield(self._ready)

    async def take(self, number: int, shard: bytes, pictures: Mapping[str, Any]) -> None:
        """Carry a piece out; `news` say when it is done. `pictures` says where those in it are, by hash."""
        if number not in self._taken:
            self._taken[number] = asyncio.ensure_future(self._carry_out(number, shard, pictures))

    async def news(self, number: int, wait_s: float = 0.5) -> tuple[int, list[Item]]:
        """See `News.after`."""
        return await self._news.after(number, wait_s)

    async def stop(self) -> None:
        """Begin nothing more, and let what is in flight land."""
        self._begin_no_more()

    async def end(self) -> dict[str, Any]:
        """Close everything; what it took: CPU seconds, and how long rows waited for their commit."""
        self._over.set()
        if self._begun is not None:
            await self._begun
        times = os.times()
        waited = sorted(self._link.acknowledged_s) or [0.0]
        return {
            "cpu_s": times.user + times.system,
            "acknowledged_ms": {
                share: 1000 * waited[int(share / 100 * (len(waited) - 1))] for share in (50, 99, 100)
            },
            "unsure": self._budget.unsure,
            "spent_usd": self._budget.spent_here,
            "sent": self._local.sent(),
        }

    async def _live(self, head: Head) -> None:
        assert self._ready is not None
        try:
            async with AsyncExitStack() as stack:
                await self._open(head, stack)
                self._ready.set_result(None)
                await self._over.wait()
                await asyncio.gather(*self._taken.values(), return_exceptions=True)
                await self._link.close()
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    async def _open(self, head: Head, stack: AsyncExitStack) -> None:
        raise_open_files()
        self._head = head
        self._news = News(rows=head.rows, texts=head.texts)
        tick = self._tick if head.settings.ray_accounts is None else under(self._named, self._tick)
        link = self._link = Link(head.session_id, self._incarnation, self._deliver, tick)
        link.on_fenced = self._begin_no_more
        link.on_failed = lambda error: self._news.tell("failed", None, _told(error))
        self._keeper = RemoteKeeper(link.save, self._ask, self._news.saved)
        self._budget = RemoteBudget(head.first, capped=head.capped, ask=link.wake)
        if head.capped:
            link.budget = self._budget
        self._meters = _meters(head) if head.capped else None
        self._local = LocalServers(head.handed, self._reach)
        limits = limits_of(head.settings, calls_at_once(1), make=link.limiter)
        opened = open_models(head.settings, limits=limits, local=self._local)
        self._models = await stack.enter_async_context(opened)
        self._judge = await self._models.judge()
        await self._know(self._models, head)
        # Once calls are in flight there may be no file left to open.
        load_ahead()
        for watch in (PAUSES.watch(self._news.notice), self._tell_sent()):
            stack.callback(asyncio.ensure_future(watch).cancel)
        stack.enter_context(collecting_less())
        link.start()

    async def _know(self, models: Models, head: Head) -> None:
        targets = await targets_of(head.settings, models, None)
        if head.settings.ray_accounts is not None:
            # By the keys of this machine, which are those that are used.
            specs = [models.spec(target.model_name) for target in targets]
            specs += [*models.judge_specs.values(), *models.guard_specs.values()]
            self._named |= named_for_all(specs, models.limits.account_of, head.session_id)
        # With --fresh the plan knows the sample index, which is part of a target's key.
        keys = {replace(target, sample=0).key: target.key for target in head.plan.targets}
        if odd := [target.name for target in targets if target.key not in keys]:
            raise InputError(
                f"{odd[0]}: means something else on {platform.node()} than where the run was started"
            )
        for target in targets:
            key = keys[target.key]
            models.providers[key] = models.providers.pop(target.key)
            if target.moderator is not None:
                models.moderators[key] = models.moderators.pop(target.key)
        for fact in head.facts:
            models.negotiations.know(*fact)
        models.negotiations.observe(self._learnt)

    async def _tell_sent(self) -> None:
        while True:
            await asyncio.sleep(_TELL_S)
            if sent := self._local.sent():
                self._news.tell("sent", sent)

    def _learnt(self, learnt: Learnt) -> None:
        self._news.learnt(learnt)
        recorder = Recorder(self._head.plan, self._keeper, self._head.session_id)
        task = asyncio.ensure_future(recorder.save_learnt(learnt))
        self._saving.add(task)
        task.add_done_callback(self._saving.discard)

    async def _carry_out(self, number: int, shard: bytes, pictures: Mapping[str, Any]) -> None:
        try:
            # In threads: pictures come from elsewhere, and with a moderator the store is asked what it has.
            # While that takes its time this loop has to hear of permits, and the driver of this worker.
            plan: Plan = await asyncio.to_thread(unpack, shard, lambda sha256: self._load(pictures[sha256]))
            recorder = Recorder(plan, self._keeper, self._head.session_id)
            context = SessionContext(plan, recorder, self._news, self._budget, None, self._meters)
            models = self._models
            scheduler = await asyncio.to_thread(
                Scheduler,
                context,
                models.providers,
                _again(self._judge),
                limits=models.limits,
                moderators=_all_again(models.moderators),
            )
            scheduler.on_begun = partial(self._news.tell, "begun", number)
            self._schedulers.add(scheduler)
            if self._stopping:
                scheduler.stop()
            try:
                self._news.tell("done", number, await scheduler.run())
            finally:
                self._schedulers.discard(scheduler)
        except BaseException as error:  # noqa: BLE001 - the driver is to know of it
            self._news.tell("failed", number, _told(error))

    def _begin_no_more(self) -> None:
        self._stopping = True
        for scheduler in self._schedulers:
            scheduler.stop()


def _again(judge: Judge | None) -> Judge | None:
    """The judge for one more scheduler, which puts its own wrapper around who is asked."""
    return Panel(judge.mode, tuple(map(copy, judge.members))) if isinstance(judge, Panel) else copy(judge)


def _all_again(moderators: Mapping[str, Moderator]) -> dict[str, Moderator]:
    assessors = {one.assessor: one.assessor.again() for one in moderators.values()}
    return {
        key: Moderator(one.name, assessors[one.assessor], one.moderation) for key, one in moderators.items()
    }


def _told(error: BaseException) -> Exception:
    """What the driver raises: only errors that are made to be shown are sure to travel."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, SafemtError):
        return error
    return RuntimeError("in a worker: " + "".join(traceback.format_exception(error)))


def _meters(head: Head) -> dict[str, Meter]:
    targets = {target.key for target in head.plan.targets}
    judge = None if head.plan.judge is None else head.plan.judge.judge_key
    return {
        key: Meter(ceiling, judge_key=judge if key in targets else None)
        for key, ceiling in head.ceilings.items()
    }
