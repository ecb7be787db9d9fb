"""One session of a run: carry out the plan with its displays, and report how it ended."""

from __future__ import annotations

import gc
import signal
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import asdict
from functools import partial

import anyio
from anyio.abc import TaskGroup
from rich.console import Console

from safemt_client.engine.ahead import load_ahead
from safemt_client.engine.budget import Budget
from safemt_client.engine.context import SessionContext
from safemt_client.engine.invocation import Invocation
from safemt_client.engine.meter import Meter
from safemt_client.engine.prepared import Prepared
from safemt_client.engine.recorder import Recorder
from safemt_client.engine.results import result_of
from safemt_client.engine.scheduler import Scheduler
from safemt_client.models import Models
from safemt_client.planning.ceilings import ceilings_of
from safemt_client.planning.costs import held_of, spent_of
from safemt_client.planning.estimate import call_usd, of_guard, of_judge, of_target
from safemt_client.planning.plan import Plan
from safemt_client.providers.negotiation import Learnt
from safemt_client.providers.pauses import PAUSES
from safemt_client.providers.signals import heard
from safemt_client.results.store.errors import StoreError
from safemt_client.results.store.rows import Row
from safemt_client.results.store.store import Store
from safemt_client.serving.local import LocalServers
from safemt_client.settings import RunSettings
from safemt_client.telemetry.ending import finish
from safemt_client.telemetry.events import (
    Fanout,
    Listener,
    RunResult,
    StoppedAtOnceError,
    StopReason,
    Watcher,
)
from safemt_client.telemetry.log import RunLog, log_path
from safemt_client.telemetry.oddities import Oddities
from safemt_client.telemetry.progress import Progress

__all__ = ["carry_out", "first_prices", "listen", "note_use", "open_log"]

_USE_S = 60.0
"""Seconds after which it is kept what servers of this program did."""
_COLLECT_AFTER = 50_000
"""Objects made and not deleted between two collections of garbage."""


async def carry_out(prepared: Prepared, invocation: Invocation) -> RunResult:
    """Run a session with its log and traces, print how it ended.

    Raises:
        InputError: the log cannot be written, or what traces need is not installed.
        StoreError: the store cannot be written.
    """
    plan, settings = prepared.plan, prepared.settings
    invocation.run_id, session_id = plan.run.run_id, uuid.uuid4().hex[:12]
    with ExitStack() as stack:
        watchers: list[Watcher] = []

        def watch(watcher: Watcher) -> None:
            stack.callback(watcher.close)
            watchers.append(watcher)

        # What can fail by itself comes first, and a new store last: bad input leaves nothing behind.
        if settings.otel:
            from safemt_client.telemetry.traces import Traces

            watch(Traces(plan, session_id))
        if (log := open_log(settings, invocation.run_id, session_id)) is not None:
            watch(log)
        store = prepared.store or stack.enter_context(Store.open(settings.db, "nothing"))
        if (console := invocation.console) is not None:
            watch(Oddities(plan, store, partial(console.print, markup=False, soft_wrap=True)))
        store.watchers.extend(watcher.saved for watcher in watchers)
        stack.callback(store.watchers.clear)
        if log is not None:
            log.started(plan)
        try:
            ending = await _run_session(prepared, store, invocation, session_id, log)
            store.check()
            end = prepared.finish or finish
            result = invocation.result = end(plan, ending, store, settings, invocation.console)
        except BaseException as error:
            for watcher in watchers:
                watcher.ended(result_of(error), error)
            raise
        for watcher in watchers:
            watcher.ended(result)
    return result


def open_log(settings: RunSettings, run_id: str, session_id: str) -> RunLog | None:
    """The log of a session; None if there is to be none."""
    path = log_path(settings.log, settings.db, run_id)
    if path is None:
        return None
    return RunLog(
        path, run_id=run_id, session_id=session_id, level=settings.log_level, texts=settings.log_texts
    )


async def _run_session(
    prepared: Prepared, store: Store, invocation: Invocation, session_id: str, log: Listener | None
) -> StopReason:
    """Carry the plan out under a display, until done or stopped; `log` receives what the display receives."""
    plan, settings, models = prepared.plan, prepared.settings, prepared.models
    spent = spent_of(store, plan.run.run_id)
    if settings.max_cost is not None:
        spent += held_of(store, plan.run.run_id)
    progress = Progress(
        plan,
        invocation.console or Console(quiet=True),
        quiet=settings.quiet or invocation.console is None,
        spent_before=spent,
        cap_usd=settings.max_cost,
        on_change=invocation.on_progress,
    )
    _load_ahead(store, models)
    recorder = (prepared.recorder or Recorder)(plan, store, session_id)
    capped = settings.max_cost is not None
    budget = Budget(
        settings.max_cost,
        spent=spent,
        first=first_prices(plan, settings),
        lender=recorder if capped else None,
    )
    context = SessionContext(
        plan,
        recorder,
        progress if log is None else Fanout(progress, log),
        budget,
        models.batches,
        _meters(prepared) if capped else None,
    )
    progress.rules = context.stopping.lines
    scheduler = Scheduler(
        context, models.providers, prepared.judge, limits=models.limits, moderators=models.moderators
    )
    ending: StopReason | None = None
    try:
        async with _collecting_less(), anyio.create_task_group() as group:
            models.negotiations.observe(partial(_learnt, context, recorder, group))
            invocation.stop = _stopper(scheduler, progress, store, group.cancel_scope)
            if invocation.signals:
                group.start_soon(listen, invocation.stop)
            group.start_soon(progress.show)
            group.start_soon(PAUSES.watch, context.listener.notice)
            if models.local.running:
                group.start_soon(note_use, models.local, recorder)
            ending = await _recorded(plan, recorder, scheduler)
            await recorder.save_use(models.local)
            group.cancel_scope.cancel()
    finally:
        invocation.stop = None
        # Where the store cannot be written the lease stays as it is.
        with anyio.CancelScope(shield=True), suppress(StoreError):
            await budget.close(clean=ending is not None)
    if ending is None:
        raise StoppedAtOnceError("interrupted; the same command resumes")
    return ending


async def _recorded(plan: Plan, recorder: Recorder, scheduler: Scheduler) -> StopReason:
    """Carry the plan out, once it is stored, and store how that began and ended."""
    await recorder.save_plan()
    await recorder.save_event("started", {"pending": sum(plan.turns.values())})
    ending = await scheduler.run()
    await recorder.save_event("finished" if ending.complete else "stopped", asdict(ending))
    return ending


@asynccontextmanager
async def _collecting_less() -> AsyncIterator[None]:
    """The plan lives until the end: the garbage collector need not scan it again and again.

    Calls in flight make thousands of objects in a few milliseconds, and hardly any of them is in a circle.
    """
    often = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, *often[1:])
    try:
        yield
    finally:
        gc.unfreeze()
        gc.set_threshold(*often)


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


def first_prices(plan: Plan, settings: RunSettings) -> dict[str, float]:
    """US dollars of a first call, by the key of who is asked: they matter only for a cost cap."""
    if not settings.max_cost:
        return {}
    estimates = {target.key: of_target(plan, target) for target in plan.targets}
    if plan.judge is not None:
        estimates[plan.judge.judge_key] = of_judge(plan)
    estimates |= {row.guard_key: of_guard(plan, row.guard_key) for row in plan.moderators}
    return {key: call_usd(estimate) or 0.0 for key, estimate in estimates.items()}


def _meters(prepared: Prepared) -> dict[str, Meter]:
    """The prices of each model that is asked, by its key."""
    plan = prepared.plan
    targets = {target.key for target in plan.targets}
    judge = None if plan.judge is None else plan.judge.judge_key
    return {
        key: Meter(ceiling, judge_key=judge if key in targets else None)
        for key, ceiling in ceilings_of(plan, prepared.models, prepared.judge).items()
    }


def _stopper(
    scheduler: Scheduler, progress: Progress, store: Store, scope: anyio.CancelScope
) -> Callable[[], None]:
    """What stops a session: the first call waits for what is in flight, the second abandons it.

    A store whose file is not what it was stops it as well.
    """
    store.watchers.append(_guard(store, scheduler, progress))
    first = True

    def stop() -> None:
        nonlocal first
        if not first:
            # Not KeyboardInterrupt: raised in a task, it stops the loop before any clean-up.
            scope.cancel()
            return
        first = False
        scheduler.stop()
        progress.notice("stopping: waiting for calls in flight; Ctrl-C again stops at once")

    return stop


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


def _ending() -> list[signal.Signals]:
    """Ctrl-C, SIGTERM, and the end of the terminal, unless it was started to outlive that, as by `nohup`."""
    found = [signal.SIGINT, signal.SIGTERM]
    # Windows has no such signal.
    hangup: signal.Signals | None = getattr(signal, "SIGHUP", None)
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        found.append(hangup)
    return found


async def listen(stop: Callable[[], None]) -> None:
    """Each signal that ends a program asks the session to stop."""
    with heard(*_ending()) as signals:
        async for _ in signals:
            stop()
