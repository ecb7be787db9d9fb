"""One session of a run: carry out the plan with its displays, and report how it ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial

import anyio
from anyio.abc import TaskGroup

from safemt_client.engine.ahead import load_ahead
from safemt_client.engine.budget import Budget
from safemt_client.engine.collecting import collecting_less
from safemt_client.engine.context import SessionContext
from safemt_client.engine.invocation import Invocation
from safemt_client.engine.meter import Meter
from safemt_client.engine.prepared import Prepared
from safemt_client.engine.recorder import Recorder
from safemt_client.engine.scheduler import Scheduler
from safemt_client.engine.watched import Watched, first_prices, watched
from safemt_client.models import Models
from safemt_client.planning.ceilings import ceilings_of
from safemt_client.planning.plan import Plan
from safemt_client.providers.negotiation import Learnt
from safemt_client.results.store.errors import StoreError
from safemt_client.results.store.rows import Row
from safemt_client.results.store.store import Store
from safemt_client.serving.local import LocalServers
from safemt_client.telemetry.ending import finish
from safemt_client.telemetry.events import RunResult, StopReason
from safemt_client.telemetry.progress import Progress

__all__ = ["carry_out", "note_use"]

_USE_S = 60.0
"""Seconds after which it is kept what servers of this program did."""


async def carry_out(prepared: Prepared, invocation: Invocation) -> RunResult:
    """Run a session with its log and traces, print how it ended.

    Raises:
        InputError: the log cannot be written, or what traces need is not installed.
        StoreError: the store cannot be written.
    """
    return await watched(prepared, invocation, _carry_out)


async def _carry_out(session: Watched) -> RunResult:
    prepared, store = session.prepared, session.store
    store.watchers.extend(watcher.saved for watcher in session.watchers)
    try:
        ending = await _run_session(session)
        store.check()
        end = prepared.finish or finish
        return end(prepared.plan, ending, store, prepared.settings, session.invocation.console)
    finally:
        store.watchers.clear()


async def _run_session(session: Watched) -> StopReason:
    """Carry the plan out under a display, until done or stopped."""
    prepared, store = session.prepared, session.store
    plan, settings, models = prepared.plan, prepared.settings, prepared.models
    spent = session.spent()
    progress, listener = session.display(spent)
    _load_ahead(store, models)
    recorder = (prepared.recorder or Recorder)(plan, store, session.session_id)
    capped = settings.max_cost is not None
    budget = Budget(
        settings.max_cost,
        spent=spent,
        first=first_prices(plan, settings),
        lender=recorder if capped else None,
    )
    context = SessionContext(
        *(plan, recorder, listener, budget, models.batches), _meters(prepared) if capped else None
    )
    progress.rules = context.stopping.lines
    scheduler = Scheduler(
        context, models.providers, prepared.judge, limits=models.limits, moderators=models.moderators
    )
    store.watchers.append(_guard(store, scheduler, progress))

    async def main(group: TaskGroup) -> StopReason:
        models.negotiations.observe(partial(_learnt, context, recorder, group))
        if models.local.running:
            group.start_soon(note_use, models.local, recorder)
        ending = await _recorded(plan, recorder, scheduler)
        await recorder.save_use(models.local)
        return ending

    clean = False
    try:
        with collecting_less():
            ending = await session.shown(progress, listener, scheduler.stop, main)
        clean = True
    finally:
        # Where the store cannot be written the lease stays as it is.
        with anyio.CancelScope(shield=True), suppress(StoreError):
            await budget.close(clean=clean)
    return ending


async def _recorded(plan: Plan, recorder: Recorder, scheduler: Scheduler) -> StopReason:
    """Carry the plan out, once it is stored, and store how that began and ended."""
    await recorder.save_plan()
    await recorder.save_event("started", {"pending": sum(plan.turns.values())})
    ending = await scheduler.run()
    await recorder.save_event("finished" if ending.complete else "stopped", asdict(ending))
    return ending


async def note_use(servers: LocalServers, recorder: Recorder) -> None:
    """Keep what the servers did, time and again: neither they nor this program need live to the end."""
    while True:
        await anyio.sleep(_USE_S)
        await recorder.save_use(servers, last=False)


def _load_ahead(store: Store, models: Models) -> None:
    for fact in store.endpoint_facts():
        models.negotiations.know(*fact)
    load_ahead()


def _learnt(context: SessionContext, recorder: Recorder, group: TaskGroup, learnt: Learnt) -> None:
    """An endpoint does not take a parameter: it is said, and kept for the sessions to come."""
    context.listener.learnt(learnt)
    group.start_soon(recorder.save_learnt, learnt)


def _meters(prepared: Prepared) -> dict[str, Meter]:
    """The prices of each model that is asked, by its key."""
    plan = prepared.plan
    targets = {target.key for target in plan.targets}
    judge = None if plan.judge is None else plan.judge.judge_key
    return {
        key: Meter(ceiling, judge_key=judge if key in targets else None)
        for key, ceiling in ceilings_of(plan, prepared.models, prepared.judge).items()
    }


def _guard(store: Store, scheduler: Scheduler, progress: Progress) -> Callable[[Sequence[Row]], None]:
    """What stops a session gently once the store's file is not what it was: nothing more is paid for."""
    told = False

    def watch(rows: Sequence[Row]) -> None:
        nonlocal told
        if store.moved and not told:
            told = True
            scheduler.stop()
            what = "the store was renamed, removed or overwritten"
            progress.notice(f"stopping: {what}; waiting for calls in flight")

    return watch
